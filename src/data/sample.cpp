#include "lab/data/sample.h"

#include "lab/core/error.h"

namespace lab {

int64_t Part::elements() const {
  int64_t product = 1;
  for (const int64_t extent : shape) product *= extent;
  return product;
}

Part& Sample::operator[](std::string_view name) {
  for (Part& part : parts)
    if (part.name == name) return part;
  std::vector<std::string> names;
  for (const Part& part : parts) names.push_back(part.name);
  const std::string near = nearest_name(name, names);
  throw ConfigError("a sample has no part '", name, "'",
                    near.empty() ? "" : text("; did you mean '", near, "'?"), "; it has ", join(names));
}

}  // namespace lab
