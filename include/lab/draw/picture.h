#pragma once
// Pictures as files: drawn by cairo, which is looked for when the first one is wanted. Nothing links it.

#include <string>

#include "lab/core/log.h"
#include "lab/draw/drawing.h"

namespace lab {

struct Picture {
  int width = 0, height = 0;
  std::string png;  // "": there is none

  bool empty() const { return png.empty(); }
};

// Dark on white, whatever it will lie on. Names that are too long are cut; of more curves than the legend
// has room for, it names the first. Throws Unavailable where cairo is missing, or has no memory left, Bug for
// a drawing with a mistake.
Picture picture_of(const Drawing& drawing);

// For whoever has no use for an exception: what can't be drawn is an empty picture. The first time this is
// said in the log; where cairo is missing it is not looked for again.
class Painter {
 public:
  explicit Painter(Log log) : log_(std::move(log)) {}
  Picture paint(const Drawing& drawing);

 private:
  Log log_;
  bool missing_ = false, said_ = false;
};

}  // namespace lab
