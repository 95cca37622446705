#pragma once
// A run's spool in rounds, as it is sent.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "lab/track/clearml_task.h"

namespace lab::detail {

// A member that is a text; "" for anything else.
std::string text_in(const nlohmann::json& record, const char* key);

// Whole lines of the spool, parsed, from one offset to the next.
struct Round {
  std::vector<nlohmann::json> records;
  int64_t end = 0;
};
// Some 4 MiB at most. A status stands alone, since all that comes before it must have been sent.
Round read_round(const std::string& spool, int64_t offset);

// Of the record that a spool begins with. Throws nlohmann's exceptions for one that is not whole.
TaskDescription description_of(const nlohmann::json& record);

// Lines of the console within a second of the first, with one level, are one event, whose time is that of the
// last: so the newest event says up to where the server has them.
std::vector<nlohmann::json> joined(const std::vector<nlohmann::json>& lines);

}  // namespace lab::detail
