#include "lab/core/errand.h"

#include <algorithm>

#include "lab/core/text.h"

namespace lab {
namespace {
thread_local ErrandText current;
}

std::string text_of(const ErrandText& errand) {
  const auto end = std::find(errand.name.begin(), errand.name.end(), '\0');
  const std::string name(errand.name.begin(), end);
  return errand.number < 0 ? name : text(name, ' ', errand.number);
}

Errand::Errand(std::string_view name, int64_t number) : before_(current) {
  current = {};
  std::copy_n(name.begin(), std::min(name.size(), current.name.size()), current.name.begin());
  current.number = static_cast<int32_t>(number);
}

Errand::~Errand() { current = before_; }
const ErrandText& Errand::of_this_thread() { return current; }

}  // namespace lab
