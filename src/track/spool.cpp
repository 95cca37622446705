#include "lab/track/spool.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "lab/core/error.h"
#include "lab/core/process.h"
#include "track/record_file.h"
#include "track/spool_lines.h"

namespace lab {
namespace {

using detail::text_in;

using Json = nlohmann::ordered_json;

int64_t milliseconds(double seconds) { return static_cast<int64_t>(std::llround(seconds * 1e3)); }

int64_t now() {
  const auto time = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(time).count();
}

// What ClearML's graphs of the machine begin with: their iteration need not be one of the run.
constexpr std::string_view monitored = ":monitor:";

// Where the last line ends, and what the lines say about where the run was.
struct Earlier {
  int64_t bytes = 0, lines = 0, damaged = 0;
  bool has_task = false;
  int64_t iteration = 0, time = 0;
  std::string status;
};
Earlier earlier_in(const std::string& path) {
  Earlier found;
  for (detail::SpoolLines lines(path); const auto line = lines.next();) {
    if (!line->ended) break;
    found.bytes = line->end;
    ++found.lines;
    found.damaged += line->damaged() ? 1 : 0;
    const nlohmann::json& record = line->record;
    const auto number = [&](const char* key) {
      return record.contains(key) && record[key].is_number_integer() ? record[key].get<int64_t>() : 0;
    };
    const std::string type = text_in(record, "type");
    if (type == "status") found.status = text_in(record, "status");
    found.has_task = found.has_task || type == "task";
    if (!text_in(record, "metric").starts_with(monitored))
      found.iteration = std::max(found.iteration, number("iter"));
    found.time = std::max(found.time, number("timestamp"));
  }
  return found;
}

}  // namespace

std::string last_status(const std::string& run_folder) {
  return earlier_in(run_folder + "/" + spool_file).status;
}

std::pair<std::string, std::string> title_and_series(const std::string& tag) {
  const size_t last = tag.rfind('/');
  if (last == std::string::npos) return {tag, tag};
  std::string title = tag.substr(0, last);
  std::ranges::replace(title, '/', '_');
  return {title, tag.substr(last + 1)};
}

struct Spool::File {
  File(const std::string& path, const Log& the_log, const Earlier& earlier)
      : log(the_log),
        lines(path, the_log, earlier.bytes),
        iteration(earlier.iteration),
        last_time(earlier.time) {}

  // The console's order is that of its times: each is later than the one before.
  void append(Json record, int64_t time) {
    const Log::Aside aside;  // a line of the log would wait for the mutex
    const std::lock_guard lock(mutex);
    write(std::move(record), time);
  }
  void write(Json record, int64_t time) {
    record["timestamp"] = time;
    lines.append(record.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
  }

  Log log;
  std::mutex mutex;
  detail::RecordFile lines;
  int64_t iteration = 0, last_time = 0;
  bool said_not_finite = false;
};

Spool::Spool(const std::string& run_folder, Log log) {
  const std::string path = run_folder + "/" + spool_file;
  const Earlier earlier = earlier_in(path);
  has_task_ = earlier.has_task;
  if (earlier.damaged > 0)
    log.warn(earlier.damaged, " of the ", earlier.lines, " records in ", path,
             " are damaged: ClearML will not have them; all others are kept");
  file_ = std::make_unique<File>(path, log, earlier);
}

Spool::~Spool() = default;

void Spool::task(const TaskDescription& task) {
  Json parameters = Json::array();
  for (const auto& [name, value, type] : task.parameters)
    parameters.push_back({{"name", name}, {"value", value}, {"type", type}});
  const TaskScript& script = task.script;
  file_->append({{"type", "task"},
                 {"stem", task.stem},
                 {"token", task.token},
                 {"project", task.project},
                 {"task_type", task.type},
                 {"parent", task.parent},
                 {"tags", task.tags},
                 {"output_uri", task.output_uri},
                 {"parameters", parameters},
                 {"configuration", task.configuration},
                 {"script",
                  {{"binary", script.binary},
                   {"entry_point", script.entry_point},
                   {"working_dir", script.working_dir},
                   {"repository", script.repository},
                   {"branch", script.branch},
                   {"commit", script.commit},
                   {"diff", script.diff}}}},
                now());
  has_task_ = true;
}

void Spool::scalars(const std::vector<Scalar>& points, double wall_time) {
  File& file = *file_;
  const Log::Aside aside;
  const std::lock_guard lock(file.mutex);
  for (const auto& [tag, step, epoch, value] : points) {
    if (!std::isfinite(value)) {
      if (!std::exchange(file.said_not_finite, true))
        file.log.warn(tag, " is ", value, " at step ", step,
                      ": ClearML takes no such points; they are in metrics.csv only");
      continue;
    }
    const auto [title, series] = title_and_series(tag);
    file.write({{"type", "training_stats_scalar"},
                {"iter", step},
                {"metric", title},
                {"variant", series},
                {"value", value}},
               milliseconds(wall_time));
    file.iteration = std::max(file.iteration, step);
  }
}

void Spool::text(const std::string& tag, const std::string& value, double) {
  console("info", tag + ": " + value);
}

void Spool::sync() { file_->lines.sync(); }

void Spool::console(const std::string& level, const std::string& line) {
  File& file = *file_;
  const Log::Aside aside;
  const std::lock_guard lock(file.mutex);
  file.last_time = std::max(file.last_time + 1, now());
  file.write({{"type", "log"}, {"level", level}, {"worker", host_name()}, {"msg", line}}, file.last_time);
}

void Spool::figure(const TrackedFigure& figure, double) {
  plot(figure.name + " (" + figure.stage + ")", figure.stage, figure.epoch, plotly(figure.drawing));
}

void Spool::plot(const std::string& title, const std::string& series, int64_t epoch,
                 const std::string& plotly) {
  file_->append(
      {{"type", "plot"}, {"iter", epoch}, {"metric", title}, {"variant", series}, {"plot_str", plotly}},
      now());
}

void Spool::point(const std::string& title, const std::string& series, int64_t iteration, double value) {
  if (!std::isfinite(value)) return;
  file_->append({{"type", "training_stats_scalar"},
                 {"iter", iteration},
                 {"metric", title},
                 {"variant", series},
                 {"value", value}},
                now());
}

void Spool::model(const std::string& slot, const std::string& model_file, int64_t iteration,
                  const std::string& design) {
  file_->append(
      {{"type", "model"}, {"slot", slot}, {"file", model_file}, {"iter", iteration}, {"design", design}},
      now());
}

void Spool::status(const std::string& status, const std::string& reason, const std::string& message) {
  file_->append({{"type", "status"}, {"status", status}, {"reason", reason}, {"message", message}}, now());
}

int64_t Spool::iteration() const {
  const std::lock_guard lock(file_->mutex);
  return file_->iteration;
}

}  // namespace lab
