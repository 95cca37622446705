#pragma once
// The best epoch of a run so far.

#include <cstdint>
#include <string>

namespace lab {

struct Best {
  std::string monitor;
  double value = 0;
  int64_t epoch = 0, step = 0;  // 0-based epoch; optimizer steps done
};

}  // namespace lab
