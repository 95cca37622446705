#include "track/spool_round.h"

#include <optional>
#include <utility>

#include "lab/core/error.h"

namespace lab::detail {
namespace {

using Json = nlohmann::json;

constexpr size_t most_at_once = size_t{4} << 20;  // bytes of the spool in one round

bool is_task(const Json& record) { return text_in(record, "type") == "task"; }

// Where the first line is damaged, a process that went on has told it again.
std::optional<Json> first_task(const std::string& path) {
  for (SpoolLines lines(path); auto line = lines.next();)
    if (line->ended && is_task(line->record)) return std::move(line->record);
  return std::nullopt;
}

void read_into(Round& round, const std::string& path, int64_t offset) {
  for (SpoolLines lines(path, offset); auto line = lines.next();) {
    if (!line->ended) return;
    const bool is_status = text_in(line->record, "type") == "status";
    if (is_status && !round.records.empty()) return;
    round.end = line->end;
    if (line->damaged())
      ++round.damaged;
    else
      round.records.push_back(std::move(line->record));
    if (is_status || round.end - offset > static_cast<int64_t>(most_at_once)) return;
  }
}

}  // namespace

Round read_round(const std::string& path, int64_t offset) {
  Round round{{}, offset};
  try {
    read_into(round, path, offset);
    const bool begins = !round.records.empty() && is_task(round.records.front());
    if (offset == 0 && !begins)
      if (auto task = first_task(path)) round.records.insert(round.records.begin(), std::move(*task));
  } catch (const IoError&) {  // a disk that is away for a while: the rest comes in a later round
  }
  return round;
}

}  // namespace lab::detail
