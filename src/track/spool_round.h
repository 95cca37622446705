#pragma once
// A run's spool in rounds, as it is sent.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "track/spool_lines.h"

namespace lab::detail {

// Lines of the spool from one offset to the next, without those that are damaged.
struct Round {
  std::vector<nlohmann::json> records;
  int64_t end = 0;
  int64_t damaged = 0;  // so many lines
};
// Some 4 MiB at most. A status stands alone, since all that comes before it must have been sent. The task is
// the first record from offset 0, wherever in the spool it is told, unless it is told nowhere. What
// cannot be read now is left for a later round.
Round read_round(const std::string& spool, int64_t offset);

}  // namespace lab::detail
