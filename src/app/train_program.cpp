// lab_train: from a config to a run folder.

#include "app/beats.h"
#include "app/run_records.h"
#include "app/session.h"
#include "lab/app/programs.h"
#include "lab/comm/agreement.h"
#include "lab/core/signals.h"
#include "lab/train/seed.h"
#include "lab/train/trainer.h"

namespace lab {
namespace {

using Sources = std::vector<std::shared_ptr<const Source>>;

FitResult fit(Session& session, const RunConfig& config, TrainPlan plan, const Sources& sources,
              RunRecords& records) {
  auto recorders = records.recorders();
  recorders.push_back(make_beats(session.world.heartbeat()));
  TrainerContext context{session.comm,
                         session.log,
                         sources[0],
                         sources[1] && sources[1]->size() > 0 ? sources[1] : nullptr,
                         records.checkpoints(),
                         std::move(recorders),
                         records.resume(),
                         stop_signal};
  Trainer trainer(std::move(plan), config.trainer, std::move(context));
  records.resumed();
  return trainer.fit();
}

void refuse_what_needs_a_server(const RunConfig& config) {
  if (config.task.required)
    throw Unavailable(
        "task.required = true, but this version of lab does not talk to a ClearML server yet; take it out to "
        "record the run in its folder");
  if (!config.checkpoint.checkpoint_task_id.empty())
    throw Unavailable("checkpoint.checkpoint_task_id = ", quoted(config.checkpoint.checkpoint_task_id),
                      ", but this version of lab cannot fetch models of earlier tasks yet; take it out");
}

ExitCode train(Session& session, const std::vector<Experiment>& experiments) {
  const RunConfig config = load_run_config(session.comm, session.line.config, session.line.sets, experiments);
  start_computing(session, config.trainer, config.trainer.canonical() ? 1 : config.trainer.threads);
  agree(session.comm, [&] { refuse_what_needs_a_server(config); });
  if (!session.line.offline)
    session.log.info("no ClearML configured: the run is recorded in its folder only, as with --offline");
  session.watchdog.limit({.least = config.trainer.hang_seconds});
  session.world.heartbeat().phase(Phase::loading);
  TrainPlan plan;
  agree(session.comm, [&] {
    seed_torch(static_cast<uint64_t>(config.trainer.seed), Purpose::init);
    plan = config.experiment.train();
  });
  // Before there is a folder: a run that cannot begin leaves none.
  const Sources sources = open_sources(session.comm, {plan.train.dataset, plan.validate.dataset});
  std::unique_ptr<RunRecords> records;
  agree(session.comm, [&] { records = std::make_unique<RunRecords>(session, config, plan); });
  try {
    session.watchdog.report_to(require_shared_folder(session.comm, records->folder()) + "/hang.txt");
    return records->ended(fit(session, config, std::move(plan), sources, *records));
  } catch (const std::exception& e) {
    records->failed(failure_of(e));
    throw;
  }
}

}  // namespace

int train_main(int argc, char** argv, const std::vector<Experiment>& experiments) {
  return run_session(Program::train, argc, argv, experiments,
                     [&](Session& session) { return train(session, experiments); });
}

}  // namespace lab
