#include "data/sample_check.h"

#include "data/geometry.h"

namespace lab::detail {

std::string parts_text(const Sample& sample) {
  std::string out;
  for (const Part& part : sample.parts)
    out += text(out.empty() ? "" : ", ", part.name, " ", name_of(part.type), " ", shape_text(part.shape));
  return out;
}

void check_sizes(const Sample& sample, const std::function<std::string()>& place) {
  for (const Part& part : sample.parts)
    if (static_cast<int64_t>(part.bytes.size()) != part.elements() * size_of(part.type))
      throw DataError("'", part.name, "' of ", place(), " has ", part.bytes.size(), " bytes, which are not ",
                      name_of(part.type), " of the shape ", shape_text(part.shape),
                      "; whoever makes or changes a part must keep them in step");
}

}  // namespace lab::detail
