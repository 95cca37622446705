#pragma once
// Reading a spool from its beginning: what it says about the task, and its events as requests to a server
// take them.

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>

#include "lab/track/clearml_task.h"
#include "track/spool_lines.h"

namespace lab::detail {

// Points of one type, metric and variant. A point that was said again has an iteration that is not above all
// before it; so only for those is the line of the last word remembered.
struct SpooledSeries {
  int64_t highest = INT64_MIN;
  std::unordered_map<int64_t, int64_t> last_line;  // by iteration
};

struct SpoolDigest {
  std::optional<TaskDescription> task;         // the newest
  SpooledStatus status;                        // the newest
  std::map<std::string, SpooledModel> models;  // the newest of each slot
  std::map<std::array<std::string, 3>, SpooledSeries> series;
  int64_t lines = 0;
  int64_t damaged = 0;  // of them: what a crash or an editor left there
};

// Reads all lines. Throws InputNotFound where there is no such file, IoError.
SpoolDigest digest_of(const std::string& path);

// Takes one event: a JSON object, in ASCII.
using EventSink = std::function<void(const std::string& event)>;

// The events among the lines of `digest`, with "task": `task_id`, to `points` (scalars and plots; each point
// once, as it was said last) and `console` (lines of one level within a second of the first joined, at the
// time of the last). In the order of the spool.
void replay_events(const std::string& path, const SpoolDigest& digest, const std::string& task_id,
                   const EventSink& points, const EventSink& console);

}  // namespace lab::detail
