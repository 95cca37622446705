#pragma once
// The kinds of pictures.

#include "lab/draw/drawing.h"
#include "lab/draw/picture.h"

namespace lab::detail {

Picture heat_map_picture(const Drawing& drawing);
Picture curves_picture(const Drawing& drawing);

}  // namespace lab::detail
