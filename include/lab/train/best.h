#pragma once
// An epoch that is among the best of a run so far.

#include <cstdint>
#include <string>

namespace lab {

struct Best {
  std::string monitor;
  double value = 0;
  int64_t epoch = 0, step = 0;  // 0-based epoch; optimizer steps done
  std::string file = {};  // a name of its checkpoint's own, beside that of every checkpoint; empty: none
};

}  // namespace lab
