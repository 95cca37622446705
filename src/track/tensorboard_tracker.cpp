#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <utility>

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
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) host = {"localhost"};
  const std::string stem =
      text(folder, "/events.out.tfevents.", static_cast<int64_t>(now), '.', host.data(), '.', getpid(), '.');
  int number = 0;
  for (std::error_code ignored; std::filesystem::exists(text(stem, number), ignored);) ++number;
  return text(stem, number);
}

class TensorboardTracker final : public Tracker {
 public:
  TensorboardTracker(const std::string& folder, double now, Log log)
      : file_(fresh_event_file(folder, now), std::move(log)) {
    file_.append(detail::file_version_record(now));
  }

  void scalars(const std::vector<Scalar>& points, double wall_time) override {
    std::string records;
    for (auto first = points.begin(); first != points.end();) {
      // An event has one step.
      const auto last =
          std::find_if(first, points.end(), [&](const Scalar& p) { return p.step != first->step; });
      records += detail::scalars_record({first, last}, wall_time);
      first = last;
    }
    file_.append(records);
  }

  void text(const std::string& tag, const std::string& value, double wall_time) override {
    file_.append(detail::text_record(tag, value, wall_time));
  }

  void flush() override { file_.flush(); }

 private:
  detail::RecordFile file_;
};

}  // namespace

std::unique_ptr<Tracker> tensorboard_tracker(const std::string& folder, Log log) {
  return std::make_unique<TensorboardTracker>(folder, seconds_since_1970(), std::move(log));
}

}  // namespace lab
