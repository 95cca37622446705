#include "lab/draw/picture.h"

#include <exception>
#include <utility>

#include "draw/cairo.h"
#include "draw/layouts.h"
#include "lab/core/error.h"

namespace lab {

Picture picture_of(const Drawing& drawing) {
  if (drawing.empty()) return {};
  if (const std::string mistake = mistake_in(drawing); !mistake.empty()) throw Bug(mistake);
  return drawing.heat_map ? detail::heat_map_picture(drawing) : detail::curves_picture(drawing);
}

Picture Painter::paint(const Drawing& drawing) {
  if (missing_ || drawing.empty()) return {};
  try {
    try {
      detail::cairo();
    } catch (const Unavailable&) {
      missing_ = true;
      throw;
    }
    return picture_of(drawing);
  } catch (const std::exception& e) {
    if (!std::exchange(said_, true))
      log_.warn("no pictures are drawn: ", e.what(), "; the run goes on, all numbers are recorded");
    return {};
  }
}

}  // namespace lab
