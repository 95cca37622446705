#include "track/spool_reader.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "lab/core/error.h"

namespace lab::detail {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t joined_milliseconds = 1000;
constexpr size_t longest_message = size_t{1} << 20;

// Of a member that is not as the format says these throw, which makes the record a damaged one.
const std::string& text_in(const Json& record, const char* name) {
  return record.at(name).get_ref<const std::string&>();
}
int64_t integer_in(const Json& record, const char* name) {
  const Json& value = record.at(name);
  constexpr auto most = static_cast<uint64_t>(INT64_MAX);
  if (!value.is_number_integer() || (value.is_number_unsigned() && value.get<uint64_t>() > most))
    throw DataError(name, " is ", value.dump(), ", not an integer of 64 bits");
  return value.get<int64_t>();
}

TaskDescription task_in(const Json& record) {
  TaskDescription task;
  task.stem = text_in(record, "stem");
  task.token = text_in(record, "token");
  task.project = text_in(record, "project");
  task.type = text_in(record, "task_type");
  task.parent = text_in(record, "parent");
  task.tags = record.at("tags").get<std::vector<std::string>>();
  task.output_uri = text_in(record, "output_uri");
  for (const Json& item : record.at("parameters"))
    task.parameters.push_back({text_in(item, "name"), text_in(item, "value"), text_in(item, "type")});
  task.configuration = text_in(record, "configuration");
  const Json& script = record.at("script");
  task.script = {.binary = text_in(script, "binary"),
                 .entry_point = text_in(script, "entry_point"),
                 .working_dir = text_in(script, "working_dir"),
                 .repository = text_in(script, "repository"),
                 .branch = text_in(script, "branch"),
                 .commit = text_in(script, "commit"),
                 .diff = text_in(script, "diff")};
  return task;
}

using Visit = std::function<void(const Json& record, int64_t line)>;

// Calls `visit` for the records of the first `most` lines. How many lines there were, and of how many nothing
// could be made.
struct Counts {
  int64_t lines = 0, damaged = 0;
};
Counts visit_records(const std::string& path, int64_t most, const Visit& visit) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw IoError("cannot read ", path, ": ", system_error_text(errno), "; check its rights");
  Counts counts;
  for (std::string line; counts.lines < most && std::getline(in, line); ++counts.lines) {
    try {
      visit(Json::parse(line), counts.lines);
    } catch (const Json::exception&) {
      ++counts.damaged;
    } catch (const DataError&) {
      ++counts.damaged;
    }
  }
  if (in.bad())
    throw IoError("cannot read ", path, ": ", system_error_text(errno), "; is its disk all right?");
  return counts;
}

struct Point {
  std::array<std::string, 3> series;
  int64_t iteration = 0;
};
// Throws for one that a server would not take.
Point point_in(const Json& record) {
  const std::string& type = text_in(record, "type");
  const bool whole =
      type == "plot" ? Json::accept(text_in(record, "plot_str")) : record.at("value").is_number();
  if (!whole) throw DataError("a point without a value");
  integer_in(record, "timestamp");
  return {{type, text_in(record, "metric"), text_in(record, "variant")}, integer_in(record, "iter")};
}

bool is_point(const Json& record) {
  const std::string& type = text_in(record, "type");
  return type == "training_stats_scalar" || type == "plot";
}

struct Line {
  std::string level, worker, message;
  int64_t time = 0;
};
Line console_line_in(const Json& record) {
  Line line{text_in(record, "level"), text_in(record, "worker"), text_in(record, "msg"),
            integer_in(record, "timestamp")};
  if (line.level != "info" && line.level != "warning" && line.level != "error")
    throw DataError("level ", quoted(line.level));
  return line;
}

void digest_record(SpoolDigest& digest, const Json& record, int64_t line) {
  const std::string& type = text_in(record, "type");
  if (is_point(record)) {
    const Point point = point_in(record);
    SpooledSeries& series = digest.series[point.series];
    if (point.iteration <= series.highest) series.last_line[point.iteration] = line;
    series.highest = std::max(series.highest, point.iteration);
  } else if (type == "log") {
    console_line_in(record);
  } else if (type == "task") {
    digest.task = task_in(record);
  } else if (type == "status") {
    digest.status = {text_in(record, "status"), text_in(record, "reason"), text_in(record, "message")};
  } else if (type == "model") {
    digest.models[text_in(record, "slot")] = {text_in(record, "file"), text_in(record, "design"),
                                              integer_in(record, "iter")};
  } else {
    throw DataError("unknown type ", quoted(type));
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
  const Counts counts = visit_records(
      path, INT64_MAX, [&](const Json& record, int64_t line) { digest_record(digest, record, line); });
  digest.lines = counts.lines;
  digest.damaged = counts.damaged;
  return digest;
}

void replay_events(const std::string& path, const SpoolDigest& digest, const std::string& task_id,
                   const EventSink& points, const EventSink& console) {
  Console joiner(task_id, console);
  visit_records(path, digest.lines, [&](const Json& record, int64_t line) {
    if (text_in(record, "type") == "log") joiner.add(console_line_in(record));
    if (!is_point(record)) return;
    const auto [key, iteration] = point_in(record);
    const auto series = digest.series.find(key);
    if (series == digest.series.end()) return;  // it came meanwhile
    const auto last = series->second.last_line.find(iteration);
    if (last != series->second.last_line.end() && last->second != line) return;
    Json event = record;
    event["task"] = task_id;
    points(event.dump(-1, ' ', true));
  });
  joiner.finish();
}

}  // namespace lab::detail
