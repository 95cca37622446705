#include "lab/data/dataset.h"

#include <algorithm>

#include "lab/core/error.h"

namespace lab {

Dataset::Dataset(std::string path, std::vector<std::string> fields)
    : path_(std::move(path)), fields_(std::move(fields)) {
  if (path_.empty()) throw ConfigError("the path of a data file is empty; name an HDF5 file");
  if (fields_.empty())
    throw ConfigError("no field of ", path_, " was asked for; name at least one, such as \"images\"");
  for (auto field = fields_.begin(); field != fields_.end(); ++field)
    if (std::find(fields_.begin(), field, *field) != field)
      throw ConfigError("field '", *field, "' of ", path_, " was asked for twice; name each field once");
}

Dataset Dataset::take(int64_t count) const {
  if (count < 0) throw ConfigError("cannot take ", count, " samples of ", path_, "; take 0 or more");
  if (count_ >= 0 && count > count_)
    throw DataError("cannot take ", count, " samples of ", path_, ": only ", count_,
                    " are left of it here; take fewer");
  Dataset part = *this;
  part.count_ = count;
  return part;
}

Dataset Dataset::drop(int64_t count) const {
  if (count < 0) throw ConfigError("cannot drop ", count, " samples of ", path_, "; drop 0 or more");
  if (count_ >= 0 && count > count_)
    throw DataError("cannot drop ", count, " samples of ", path_, ": only ", count_,
                    " are left of it here; drop fewer");
  Dataset part = *this;
  part.first_ += count;
  if (count_ >= 0) part.count_ -= count;
  return part;
}

Dataset Dataset::with_optional(std::string field) const {
  Dataset more = *this;
  if (std::ranges::find(fields_, field) == fields_.end() &&
      std::ranges::find(optional_, field) == optional_.end())
    more.optional_.push_back(std::move(field));
  return more;
}

Dataset hdf5(std::string path, std::vector<std::string> fields) {
  return {std::move(path), std::move(fields)};
}

}  // namespace lab
