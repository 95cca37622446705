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

// The time of the newest event in an answer to events.get_task_log that is not later than `until`; 0: none.
int64_t newest_time(const std::string& answer, int64_t until);

// Lines of the console within a second of the first, with one level, are one event, whose time is that of the
// last: so the newest event says up to where the server has them.
std::vector<nlohmann::json> joined(const std::vector<nlohmann::json>& lines);

}  // namespace lab::detail
