#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "lab/core/process.h"
#include "lab/track/tracker.h"
#include "track/event_record.h"
#include "track/record_file.h"

namespace lab {
namespace {

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// A name that TensorBoard knows as an event file's, and that no file has yet.
std::string fresh_event_file(const std::string& folder, double now) {
  const std::string stem =
      text(folder, "/events.out.tfevents.", static_cast<int64_t>(now), '.', host_name(), '.', getpid(), '.');
  int number = 0;
  for (std::error_code ignored; std::filesystem::exists(text(stem, number), ignored);) ++number;
  return text(stem, number);
}

std::vector<std::string> event_files(const std::string& folder) {
  std::vector<std::string> files;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored))
    if (entry.path().filename().string().starts_with("events.out.tfevents."))
      files.push_back(entry.path().string());
  return files;
}

// The newest event file of a folder, where its first `records` records end, and how many it has of them.
struct Kept {
  std::string path;
  int64_t bytes = 0, records = 0;
};
Kept kept_of(const std::string& folder, int64_t records) {
  Kept kept;
  for (const auto& file : event_files(folder)) kept.path = std::max(kept.path, file);
  std::ifstream in(kept.path, std::ios::binary);
  const std::string content{std::istreambuf_iterator<char>(in), {}};
  while (kept.records < records) {
    const auto end = detail::record_end(content, static_cast<size_t>(kept.bytes));
    if (!end) break;
    kept = {kept.path, static_cast<int64_t>(*end), kept.records + 1};
  }
  return kept;
}

class TensorboardTracker final : public Tracker {
 public:
  TensorboardTracker(const std::string& folder, double now, Log log)
      : file_(fresh_event_file(folder, now), std::move(log)), records_(1) {
    file_.append(detail::file_version_record(now));
  }
  TensorboardTracker(const Kept& kept, Log log)
      : file_(kept.path, std::move(log), kept.bytes), records_(kept.records) {}

  void scalars(const std::vector<Scalar>& points, double wall_time) override {
    std::string records;
    for (auto first = points.begin(); first != points.end();) {
      // An event has one step.
      const auto last =
          std::find_if(first, points.end(), [&](const Scalar& p) { return p.step != first->step; });
      records += detail::scalars_record({first, last}, wall_time);
      ++records_;
      first = last;
    }
    file_.append(records);
  }

  void text(const std::string& tag, const std::string& value, double wall_time) override {
    file_.append(detail::text_record(tag, value, wall_time));
    ++records_;
  }

  void figure(const TrackedFigure& figure, double wall_time) override {
    file_.append(
        detail::picture_record(figure.name + '/' + figure.stage, figure.picture, figure.step, wall_time));
    ++records_;
  }

  void flush() override { file_.flush(); }
  void sync() override { file_.sync(); }
  std::optional<int64_t> records() const override { return records_; }

 private:
  detail::RecordFile file_;
  int64_t records_;
};

}  // namespace

std::unique_ptr<Tracker> tensorboard_tracker(const std::string& folder, Log log, int64_t keep) {
  if (keep > 0) {
    const Kept kept = kept_of(folder, keep);
    if (kept.records < keep)
      log.warn("the event file of ", folder, " has lost ", keep - kept.records, " of its first ", keep,
               " records");
    if (kept.records > 0) return std::make_unique<TensorboardTracker>(kept, std::move(log));
  }
  return std::make_unique<TensorboardTracker>(folder, seconds_since_1970(), std::move(log));
}

}  // namespace lab
