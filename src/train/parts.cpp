#include "lab/train/parts.h"

#include "lab/core/error.h"
#include "train/explained.h"

namespace lab {
namespace {

std::string names_of(const Parts& parts) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : parts.entries()) names.push_back(quoted(name));
  return join(names);
}

}  // namespace

bool Parts::has(std::string_view name) const {
  for (const auto& entry : entries_)
    if (entry.first == name) return true;
  return false;
}

const at::Tensor& Parts::operator[](std::string_view name) const {
  for (const auto& [known, tensor] : entries_)
    if (known == name) return tensor;
  throw ConfigError("the experiment asks for the part ", quoted(name), ", but there are: ", names_of(*this));
}

const at::Tensor& Parts::only() const {
  if (entries_.size() != 1)
    throw ConfigError("one tensor is wanted where there are ", entries_.size(), " parts: ", names_of(*this),
                      "; name one");
  return entries_.front().second;
}

std::string shapes_text(const Batch& batch) {
  std::vector<std::string> parts;
  for (const auto& [name, tensor] : batch.parts.entries()) {
    std::vector<std::string> sizes;
    for (const int64_t n : tensor.sizes()) sizes.push_back(std::to_string(n));
    parts.push_back(text(name, " (", join(sizes), ")"));
  }
  return text(batch.count(), batch.count() == 1 ? " sample: " : " samples: ", join(parts));
}

}  // namespace lab
