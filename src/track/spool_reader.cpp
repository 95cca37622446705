#include "track/spool_reader.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "lab/core/error.h"
#include "track/spool_lines.h"

namespace lab::detail {
namespace {

using Json = nlohmann::json;

constexpr int64_t joined_milliseconds = 1000;
constexpr size_t longest_message = size_t{1} << 20;

struct Line {
  std::string level, worker, message;
  int64_t time = 0;
};
Line console_line_in(const Json& record) {
  return {text_in(record, "level"), text_in(record, "worker"), text_in(record, "msg"),
          record.at("timestamp").get<int64_t>()};
}

std::array<std::string, 3> series_of(const Json& point) {
  return {text_in(point, "type"), text_in(point, "metric"), text_in(point, "variant")};
}
int64_t iteration_of(const Json& record) { return record.at("iter").get<int64_t>(); }

void digest_record(SpoolDigest& digest, const Json& record, int64_t line) {
  const std::string type = text_in(record, "type");
  if (is_point(record)) {
    SpooledSeries& series = digest.series[series_of(record)];
    const int64_t iteration = iteration_of(record);
    if (iteration <= series.highest) series.last_line[iteration] = line;
    series.highest = std::max(series.highest, iteration);
  } else if (type == "task") {
    digest.task = description_of(record);
  } else if (type == "status") {
    digest.status = status_of(record);
  } else if (type == "model") {
    digest.models[text_in(record, "slot")] = model_of(record);
  }
}

// Joins lines as long as they fit together.
class Console {
 public:
  Console(std::string task_id, const EventSink& sink) : task_id_(std::move(task_id)), sink_(sink) {}

  void add(Line line) {
    const bool fits = joined_ && joined_->level == line.level && joined_->worker == line.worker &&
                      line.time - first_ < joined_milliseconds &&
                      joined_->message.size() + line.message.size() < longest_message;
    if (fits) {
      joined_->message += '\n' + line.message;
      joined_->time = line.time;
      return;
    }
    finish();
    first_ = line.time;
    joined_ = std::move(line);
  }

  void finish() {
    if (!joined_) return;
    const Json event = {{"task", task_id_},
                        {"timestamp", joined_->time},
                        {"level", joined_->level},
                        {"worker", joined_->worker},
                        {"msg", joined_->message}};
    sink_(event.dump(-1, ' ', true));
    joined_.reset();
  }

 private:
  std::string task_id_;
  const EventSink& sink_;
  std::optional<Line> joined_;
  int64_t first_ = 0;  // time of its first line
};

}  // namespace

SpoolDigest digest_of(const std::string& path) {
  if (!std::filesystem::is_regular_file(path))
    throw InputNotFound("there is no ", path, "; is its folder that of a run?");
  SpoolDigest digest;
  for (SpoolLines lines(path); const auto line = lines.next(); ++digest.lines)
    if (line->damaged())
      ++digest.damaged;
    else
      digest_record(digest, line->record, digest.lines);
  return digest;
}

void replay_events(const std::string& path, const SpoolDigest& digest, const std::string& task_id,
                   const EventSink& points, const EventSink& console) {
  Console joiner(task_id, console);
  SpoolLines lines(path);
  for (int64_t number = 0; number < digest.lines; ++number) {
    auto line = lines.next();
    if (!line) break;
    Json& record = line->record;
    if (text_in(record, "type") == "log") joiner.add(console_line_in(record));
    if (!is_point(record)) continue;
    const auto series = digest.series.find(series_of(record));
    if (series == digest.series.end()) continue;  // it came meanwhile
    const auto last = series->second.last_line.find(iteration_of(record));
    if (last != series->second.last_line.end() && last->second != number) continue;
    record["task"] = task_id;
    points(record.dump(-1, ' ', true));
  }
  joiner.finish();
}

}  // namespace lab::detail
