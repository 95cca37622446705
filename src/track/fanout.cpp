#include <utility>

#include "lab/track/tracker.h"

namespace lab {

void Fanout::add(std::shared_ptr<Tracker> tracker) { trackers_.push_back(std::move(tracker)); }

void Fanout::scalars(const std::vector<Scalar>& points, double wall_time) {
  for (const auto& tracker : trackers_) tracker->scalars(points, wall_time);
}

void Fanout::text(const std::string& tag, const std::string& value, double wall_time) {
  for (const auto& tracker : trackers_) tracker->text(tag, value, wall_time);
}

void Fanout::figure(const TrackedFigure& figure, double wall_time) {
  for (const auto& tracker : trackers_) tracker->figure(figure, wall_time);
}

void Fanout::flush() {
  for (const auto& tracker : trackers_) tracker->flush();
}

void Fanout::sync() {
  for (const auto& tracker : trackers_) tracker->sync();
}

std::optional<int64_t> Fanout::records() const {
  int64_t all = 0;
  for (const int64_t count : records_of_each()) all += count;
  return all;
}

std::vector<int64_t> Fanout::records_of_each() const {
  std::vector<int64_t> counts;
  for (const auto& tracker : trackers_)
    if (const auto count = tracker->records()) counts.push_back(*count);
  return counts;
}

}  // namespace lab
