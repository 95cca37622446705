#include "lab/core/purpose.h"

#include <algorithm>

#include "lab/core/text.h"

namespace lab {
namespace {
thread_local PurposeText current;
}

std::string text_of(const PurposeText& purpose) {
  const auto end = std::find(purpose.name.begin(), purpose.name.end(), '\0');
  const std::string name(purpose.name.begin(), end);
  return purpose.number < 0 ? name : text(name, ' ', purpose.number);
}

Purpose::Purpose(std::string_view name, int64_t number) : before_(current) {
  current = {};
  std::copy_n(name.begin(), std::min(name.size(), current.name.size()), current.name.begin());
  current.number = static_cast<int32_t>(number);
}

Purpose::~Purpose() { current = before_; }
const PurposeText& Purpose::of_this_thread() { return current; }

}  // namespace lab
