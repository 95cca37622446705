#pragma once
// Where the records of a run go: scalars, text, figures. One interface, several writers.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lab/core/log.h"
#include "lab/draw/picture.h"

namespace lab {

// A scalar of a run. Tags as "loss/validate"; step is the 0-based index of the last optimizer step.
struct Scalar {
  std::string tag;
  int64_t step = 0;
  int64_t epoch = 0;
  double value = 0;
};

// A figure of an epoch.
struct TrackedFigure {
  std::string name, stage;  // "confusion", "validate"
  int64_t step = 0;         // as the epoch's scalars
  int64_t epoch = 0;
  Drawing drawing;
  Picture picture;  // of the drawing; empty where none could be made
};

// Made on rank 0 only and passed in; other ranks get a Fanout of nothing. Calls come from one thread. No call
// throws for an outside reason once the tracker is made (a full disk is said once in the log), so none can
// end a run.
class Tracker {
 public:
  virtual ~Tracker() = default;
  // wall_time: seconds since 1970.
  virtual void scalars(const std::vector<Scalar>& points, double wall_time) = 0;
  virtual void text(const std::string& tag, const std::string& value, double wall_time) = 0;
  // Writers of numbers leave it out.
  virtual void figure(const TrackedFigure& /*figure*/, double /*wall_time*/) {}
  // What was given so far survives the process being killed.
  virtual void flush() = 0;
  // What was handed to the kernel so far is on the disk. From any thread.
  virtual void sync() = 0;
  // How many records its file was given since the run began, whatever process gave them: where a continued
  // run goes on from. The same in each run of the same plan. nullopt: it never cuts any.
  virtual std::optional<int64_t> records() const = 0;
};

// Hands everything to each of its trackers, in order. Shares them. Without any it is the tracker of ranks >
// 0.
class Fanout final : public Tracker {
 public:
  void add(std::shared_ptr<Tracker> tracker);
  void scalars(const std::vector<Scalar>& points, double wall_time) override;
  void text(const std::string& tag, const std::string& value, double wall_time) override;
  void figure(const TrackedFigure& figure, double wall_time) override;
  void flush() override;
  void sync() override;
  std::optional<int64_t> records() const override;  // of all
  std::vector<int64_t> records_of_each() const;     // but those that cut none

 private:
  std::vector<std::shared_ptr<Tracker>> trackers_;
};

// metrics.csv: header `epoch,step,tag,value,time`; values as the shortest text that reads back as the same
// double. Of a file that is there already, the first `keep` rows stay and the others go. Leaves texts out.
// Throws IoError when the file cannot be opened. Each call hands its rows to the kernel before it returns;
// what a full disk refuses is kept in memory (16 MiB at most) and written once there is room.
std::unique_ptr<Tracker> csv_tracker(const std::string& path, Log log = {}, int64_t keep = 0);

// What such a file holds, in its order. Rows that are none (the last one may be half written) are left out.
std::vector<Scalar> read_csv(const std::string& path);

// events.out.tfevents.* in `folder`, as TensorBoard reads them: length and CRC-32C framed Event messages.
// keep 0: a new file; else the newest goes on behind its first `keep` records. Values
// are rounded to 32-bit floats, the only form in which all of TensorBoard's readers take scalars (its data
// server shows nothing for 64-bit tensors); metrics.csv has them in full. A figure is the image
// "<name>/<stage>", or where there is no picture of it a record of nothing, so that the same run has the same
// number of records on machines that cannot draw. Otherwise as csv_tracker.
std::unique_ptr<Tracker> tensorboard_tracker(const std::string& folder, Log log = {}, int64_t keep = 0);

// Pictures of figures as files, <name>/<stage>-epoch-NNNN.png in `folder` (made when it is needed), counted
// from 0001 as in the log. Each appears whole or not at all, and replaces an earlier one. What cannot be
// written is left out, and said once.
std::unique_ptr<Tracker> picture_tracker(const std::string& folder, Log log = {});

}  // namespace lab
