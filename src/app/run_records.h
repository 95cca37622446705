#pragma once
// All that one training run writes, from its first process to its last.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app/earlier_task.h"
#include "app/recorder.h"
#include "app/resume.h"
#include "app/run_lock.h"
#include "app/session.h"
#include "app/tracking.h"
#include "lab/app/run_folder.h"
#include "lab/draw/picture.h"
#include "lab/track/tracker.h"
#include "lab/track/training_pictures.h"
#include "lab/train/checkpoint.h"
#include "lab/train/trainer.h"

namespace lab {

// On rank 0 a run folder, new or that of the run which --resume names; elsewhere nothing. The trainer does
// not see the difference. Where weights are only measured it is a new one, without checkpoints.
class RunRecords {
 public:
  // Throws ConfigError, DataError, GiveUp, InputNotFound, IoError, Unavailable,
  // UsageError; a new run has then left at most an empty folder, and an old one is as it was. samples: of the
  // training set. Not collective: to be called within agree().
  RunRecords(const Session& session, const RunConfig& config, const TrainPlan& plan,
             const ClearmlAccess& clearml, int64_t samples);

  ~RunRecords();
  RunRecords(const RunRecords&) = delete;
  RunRecords& operator=(const RunRecords&) = delete;

  CheckpointSink& checkpoints() { return *checkpoints_; }
  const std::vector<std::shared_ptr<Callback>>& recorders() const { return recorders_; }
  const SavedRun* resume() const { return saved_ ? &*saved_ : nullptr; }
  // What resume() holds is of another run, from which this one begins.
  bool begins() const { return begins_; }
  // The trainer has taken what resume() holds: its memory is given back.
  void resumed() { saved_.reset(); }
  // As run.json has it; of use on rank 0 only.
  const RunRecord& record() const { return record_; }
  // Somebody has aborted its task on the ClearML server. For any thread.
  bool aborted() const { return tracking_ && tracking_->aborted(); }
  // The folder's absolute path; empty on ranks that have none.
  std::string folder() const;

  // Instead of a fit.
  void measured(MetricStage stage, const Measured& measured, const Trained& weights);

  // The end of the run, or of this process's part in it. Returns what to exit with.
  ExitCode ended(const FitResult& result);
  void failed(const Failure& failure) noexcept;

 private:
  void create(const Session& session, const RunConfig& config, const RunNames& names,
              const std::optional<EarlierRun>& earlier);
  void begin_with(const std::optional<EarlierRun>& earlier);
  void go_on(const Session& session, const RunConfig& config, const TrainPlan& plan, ResumeTarget target);
  void open_records(const Session& session, const RunConfig& config, const TrainPlan& plan);
  void close(const std::string& status, ExitCode code, const std::string& error);

  void learn_task();
  void lost(const std::string& why) const;

  Log log_;
  Watchdog& watchdog_;
  std::optional<RunFolder> folder_;
  std::optional<RunLock> lock_;
  RunRecord record_;
  std::optional<SavedRun> saved_;
  bool saves_ = true, begins_ = false;
  bool measures_ = false;  // nothing is trained, nor saved
  std::unique_ptr<Tracking> tracking_;
  Fanout tracker_;
  Painter painter_;
  std::shared_ptr<TrainingPictures> pictures_;
  std::unique_ptr<CheckpointSink> checkpoints_ = no_checkpoints();
  std::vector<std::shared_ptr<Callback>> recorders_;
};

// Makes sure that every rank sees the folder that rank 0 writes to, and returns it. Collective; AgreedError.
std::string require_shared_folder(Communicator& comm, const std::string& folder_of_rank_0);

}  // namespace lab
