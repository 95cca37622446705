#pragma once
// Where the records of a run go: scalars, text, configuration, status. One interface, several writers behind it.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace lab {

// A scalar of a run. Tags as "loss/validate"; step is the 0-based index of the last optimizer step.
struct Scalar {
  std::string tag;
  int64_t step = 0;
  int64_t epoch = 0;
  double value = 0;
};

// Made on rank 0 only and passed in; other ranks get a Fanout of nothing. Calls come from one thread. No call throws
// for an outside reason once the tracker is made (a full disk is said once in the log), so none can end a run.
class Tracker {
 public:
  virtual ~Tracker() = default;
  virtual void scalars(const std::vector<Scalar>& points, double wall_time) = 0;  // wall_time: seconds since 1970
  virtual void text(const std::string& tag, const std::string& value, double wall_time) = 0;
  virtual void flush() = 0;    // what was given so far survives the process being killed
};

// Hands everything to each of its trackers, in order. Owns them. Without any it is the tracker of ranks > 0.
class Fanout final : public Tracker {
 public:
  void add(std::unique_ptr<Tracker> tracker);
  void scalars(const std::vector<Scalar>& points, double wall_time) override;
  void text(const std::string& tag, const std::string& value, double wall_time) override;
  void flush() override;

 private:
  std::vector<std::unique_ptr<Tracker>> trackers_;
};

// metrics.csv: header `epoch,step,tag,value,time`; values as the shortest text that reads back as the same double.
std::unique_ptr<Tracker> csv_tracker(const std::string& path);

// events.out.tfevents.* in `folder`, as TensorBoard reads them: length and CRC-32C framed Event messages.
std::unique_ptr<Tracker> tensorboard_tracker(const std::string& folder);

}  // namespace lab
