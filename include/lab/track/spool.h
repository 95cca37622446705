#pragma once
// What a run has to tell ClearML, as a file in the run folder: written first, sent later, by whoever can.
//
// clearml.jsonl holds one JSON object per line, in the order of time. Each has "type" and "timestamp"
// (milliseconds since 1970, never twice the same for the console):
//   task    what the task is made from; the first line (told again behind it where that is damaged)
//   status  "status": in_progress (a process has begun), completed, failed or stopped; "reason", "message"
//   model   "slot" (best, last), "file" (absolute), "iter", "design" (config text)
//   training_stats_scalar, plot, log    events of ClearML, without "task"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lab/track/clearml_task.h"
#include "lab/track/tracker.h"

namespace lab {

// The file of this name in a run folder.
inline const std::string spool_file = "clearml.jsonl";

// The graph and the series that ClearML files a tag under: "loss/validate" as loss and validate, "a/b/c" as
// a_b and c, "epoch" as epoch twice.
std::pair<std::string, std::string> title_and_series(const std::string& tag);

// The last status that a run's spool tells of; "" where there is none. Throws IoError.
std::string last_status(const std::string& run_folder);

// Appends to the spool. Safe to use from several threads; nothing throws but the constructor (IoError).
// What was handed over survives the process being killed.
class Spool final : public Tracker {
 public:
  // A file that is there goes on: a last line that a killed process left without its end is taken away.
  // Damaged lines before it stay, and it is said how many.
  Spool(const std::string& run_folder, Log log);
  ~Spool() override;

  // Whether an earlier process has described the task.
  bool has_task() const { return has_task_; }
  void task(const TaskDescription& task);

  // Points that are not finite are left out, as JSON has no word for them, and said once.
  void scalars(const std::vector<Scalar>& points, double wall_time) override;
  void text(const std::string& tag, const std::string& value, double wall_time) override;
  // A plot of this title and series: "confusion (validate)", "validate". As plotly's JSON.
  void figure(const TrackedFigure& figure, double wall_time) override;
  void plot(const std::string& title, const std::string& series, int64_t epoch, const std::string& plotly);
  void flush() override {}
  void sync() override;
  // Points are keyed by their step on the server: sent again they replace themselves, nothing is cut.
  std::optional<int64_t> records() const override { return std::nullopt; }

  // level: info, warning or error.
  void console(const std::string& level, const std::string& line);
  // A point of this graph and series, as they are called. It says nothing of how far the run is: iteration()
  // stays. One that is not finite is left out.
  void point(const std::string& title, const std::string& series, int64_t iteration, double value);
  void model(const std::string& slot, const std::string& file, int64_t iteration, const std::string& design);
  void status(const std::string& status, const std::string& reason, const std::string& message);
  // The highest step of a point so far.
  int64_t iteration() const;

 private:
  struct File;
  std::unique_ptr<File> file_;
  bool has_task_ = false;
};

}  // namespace lab
