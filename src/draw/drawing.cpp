#include "lab/draw/drawing.h"

#include "lab/core/text.h"

namespace lab {

std::string mistake_in(const Drawing& drawing) {
  for (const Curve& curve : drawing.curves)
    if (curve.x.size() != curve.y.size())
      return text("a curve has ", curve.x.size(), " places and ", curve.y.size(), " values");
  if (!drawing.heat_map) return "";
  const auto& [columns, rows, values] = *drawing.heat_map;
  if (rows.empty() || values.size() != rows.size() * columns.size())
    return text("a heat map of ", rows.size(), " x ", columns.size(), " cells has ", values.size(),
                " values");
  return columns.empty() ? "a heat map has no columns" : "";
}

}  // namespace lab
