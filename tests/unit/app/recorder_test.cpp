#include "app/recorder.h"

#include <gtest/gtest.h>

#include <sstream>

#include "unit/temporary_folder.h"

namespace lab {
namespace {

// The lines of the log up to the first step, without the times.
std::vector<std::string> start_of(const FitReport& report) {
  const test::TemporaryFolder temporary;
  Log log;
  log.also_to(temporary / "log.txt");
  const TrainerOptions options;
  RunRecord record;
  Fanout trackers;
  const auto checkpoints = no_checkpoints();
  const RunFolder folder = RunFolder::create(temporary.path(), "run");
  Painter painter(log);
  const auto recorder = make_recorder(log, options, folder, record, trackers, *checkpoints, painter);
  recorder->fit_started(report);
  if (report.validates_first) {
    recorder->validation_started(100);
    recorder->first_validation_finished({});
  }
  std::istringstream said(test::read_bytes(temporary / "log.txt"));
  std::vector<std::string> out;
  for (std::string line; std::getline(said, line);) out.push_back(line.substr(line.find("  ") + 2));
  return out;
}

TEST(Recorder, TheStartOfTrainingIsSaidOnceAndBehindTheFirstValidation) {
  const std::string validation = "Starting validation with 2 batches",
                    training = "Starting training with 43 batches";
  const std::vector<std::string> both = {validation, training};
  EXPECT_EQ(start_of({.batches_per_epoch = 43}), both);
  EXPECT_EQ(start_of({.batches_per_epoch = 43, .steps_done = 86}), both);  // which another run has done
  for (const int64_t done : {0, 50})
    EXPECT_EQ(start_of({.batches_per_epoch = 43, .steps_done = done, .validates_first = false}),
              std::vector{training});
}

}  // namespace
}  // namespace lab
