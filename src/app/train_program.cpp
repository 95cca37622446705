// lab_train: from a config to a run folder.

#include <signal.h>

#include "app/beats.h"
#include "app/check_program.h"
#include "app/flight.h"
#include "app/jobs_run.h"
#include "app/measure_program.h"
#include "app/run_records.h"
#include "app/session.h"
#include "app/tracking.h"
#include "lab/app/programs.h"
#include "lab/comm/agreement.h"
#include "lab/core/debugging.h"
#include "lab/core/signals.h"
#include "lab/train/agreed_parts.h"
#include "lab/train/gradient_check.h"
#include "lab/train/seed.h"
#include "lab/train/trainer.h"

namespace lab {
namespace {

using Sources = std::vector<std::shared_ptr<const Source>>;

FitResult fit(Session& session, const Device& device, const RunConfig& config, TrainPlan plan,
              const Sources& sources, RunRecords& records) {
  auto recorders = records.recorders();
  recorders.push_back(make_beats(session.world.heartbeat()));
  TrainerContext context{session.comm(),
                         session.log,
                         sources[0],
                         sources[1] && sources[1]->size() > 0 ? sources[1] : nullptr,
                         records.checkpoints(),
                         std::move(recorders),
                         records.resume(),
                         [&records] { return records.aborted() ? SIGUSR1 : stop_signal(); },
                         records.begins(),
                         device,
                         {}};
  if (session.line.debug)
    context.in_trouble = [&](const std::exception& error, const std::string& details) {
      look_into(session, error, details);
    };
  Trainer trainer(std::move(plan), config.trainer, std::move(context));
  records.resumed();
  if (session.line.debug) keep_throws();
  return trainer.fit();
}

std::string report_of(const std::vector<GradientComparison>& comparisons, int ranks,
                      const TrainerOptions& options) {
  std::string out =
      text("The gradient of ", ranks, ranks == 1 ? " rank (" : " ranks (", options.numerics, " numerics, ",
           options.precision, ") and that of the whole batch in one process.\n", "Dropout is off. BatchNorm ",
           compares_batch_norm(options)
               ? "takes its statistics over all ranks.\n"
               : "uses its running statistics: a share's own are not the whole batch's.\n");
  for (const auto& comparison : comparisons) out += table_of(comparison);
  return out;
}

// Instead of a run: what its first gradients are, told on standard output. Collective; AgreedError with exit
// code 70 when a parameter's differs.
ExitCode check_gradients(Session& session, const Device& device, const RunConfig& config, TrainPlan plan,
                         const Sources& sources) {
  const auto no_files = no_checkpoints();
  plan.monitor.clear();  // nothing is validated
  TrainerContext context{.comm = session.comm(),
                         .log = session.log,
                         .train = sources[0],
                         .checkpoints = *no_files,
                         .device = device};
  Trainer trainer(std::move(plan), config.trainer, std::move(context));
  const auto comparisons = trainer.compare_gradients();
  agree(session.comm(), [&] {
    if (session.comm().rank() != 0) return;
    session.log.result(report_of(comparisons, session.comm().size(), config.trainer));
    require_no_difference(comparisons);
  });
  return ExitCode::done;
}

// --set, then what was edited on a server before its agent started us; rank 0 knows how to get there. Then
// what
// --dev-run means.
// Collective; AgreedError.
std::vector<std::string> sets_of(Session& session, ClearmlAccess& clearml) {
  std::vector<std::string> sets = session.line.sets;
  std::string edited;
  agree(session.comm(), [&] {
    if (session.comm().rank() != 0) return;
    clearml = clearml_access(session.line.offline);
    if (session.parting && !clearml.agent_task.empty())
      throw UsageError("CLEARML_TASK_ID names one task, but there are ", session.line.configs.size(),
                       " configs; let an agent start each by itself");
    edited = join(edited_values(clearml), std::string(1, '\0'));
  });
  edited = broadcast_bytes(session.comm(), edited);
  for (size_t at = 0; at < edited.size();) {
    const size_t end = std::min(edited.find('\0', at), edited.size());
    sets.push_back(edited.substr(at, end - at));
    at = end + 1;
  }
  if (!session.line.dev_run.empty())
    for (const char* set : {"task.project_name=test", "trainer.init.log_every_n_steps=1"})
      sets.push_back(set);
  if (!session.line.dev_run.empty()) sets.push_back("trainer.init.overfit_batches=" + session.line.dev_run);
  return sets;
}

// Whatever made the ranks different: the first step is not taken. Collective; AgreedError.
void require_same_run(Session& session, const RunConfig& config, const TrainPlan& plan, const Source* train,
                      const Source* validate, const Source* test = nullptr) {
  std::vector<AgreedPart> parts;
  agree(session.comm(), [&] {
    parts = agreed_parts(plan, config.trainer, train, validate, test);
    parts.push_back({"config", to_toml(config.resolved, false)});
  });
  require_equal(session.comm(), parts);
}

// What is told of the run when all jobs are done.
void tell(JobResult& result, const RunRecord& record, const Values& values = {}) {
  result.name = record.name;
  result.epochs = record.epochs;
  if (record.best) result.best = record.best->value;
  const auto loss = std::ranges::find_if(
      values, [](const auto& value) { return value.first == "loss/validate" || value.first == "loss/test"; });
  if (!values.empty()) result.last = (loss == values.end() ? values.front() : *loss).second;
}

// Of several jobs that are started again one may have come to its end before. Collective; AgreedError.
bool was_completed(Session& session, const RunConfig& config) {
  int64_t done = 0;
  if (!session.parting || !session.line.resume || session.line.measures()) return false;
  agree(session.comm(), [&] {
    if (session.comm().rank() != 0) return;
    const auto run = find_run(session.line, session.launch, {config.experiment_name, config.stem},
                              config.trainer.default_root_dir);
    if (!run) return;
    const RunRecord record = run->folder.read_run_json();
    done = record.status == "completed";
    if (!done) return;
    session.log.info("completed already by an earlier start: ", run->folder.path());
    tell(session.result, record);
  });
  session.comm().broadcast({&done, 1, DType::i64}, 0);
  return done;
}

using Records = std::unique_ptr<RunRecords>;  // refers to the config

// The run's folder, and what is written there if it hangs. Collective; AgreedError.
void open_records(Session& session, const RunConfig& config, const TrainPlan& plan,
                  const ClearmlAccess& clearml, int64_t samples, Records& records) {
  agree(session.comm(),
        [&] { records = std::make_unique<RunRecords>(session, config, plan, clearml, samples); });
  const std::string folder = require_shared_folder(session.comm(), records->folder());
  session.watchdog->report_to(folder + "/hang.txt", keep_flight_records(session, folder));
}

ExitCode ended(Session& session, RunRecords& records, const FitResult& result) {
  const ExitCode code = records.ended(result);
  tell(session.result, records.record(), result.values);
  return code;
}

// Before there is a folder: a run that cannot begin leaves none.
ExitCode train_plan(Session& session, const Device& device, const RunConfig& config, TrainPlan plan,
                    const ClearmlAccess& clearml, Records& records) {
  const Sources sources = open_sources(session.comm(), {plan.train.dataset, plan.validate.dataset});
  require_same_run(session, config, plan, sources[0].get(), sources[1].get());
  if (session.line.check_gradients) return check_gradients(session, device, config, std::move(plan), sources);
  open_records(session, config, plan, clearml, sources[0] ? sources[0]->size() : 0, records);
  return ended(session, *records, fit(session, device, config, std::move(plan), sources, *records));
}

// Likewise. `names`: of the config's runs that train.
ExitCode measure_plan(Session& session, const Device& device, const RunConfig& config, TrainPlan plan,
                      const ClearmlAccess& clearml, const RunNames& names, Records& records) {
  const MeasuredSet set = open_measured_set(session, config, plan);
  const bool tests = set.stage == MetricStage::test;
  require_same_run(session, config, plan, nullptr, tests ? nullptr : set.source.get(),
                   tests ? set.source.get() : nullptr);
  const Upload upload(device);
  const Trained trained = load_measured(session, config, plan, clearml, names, upload);
  open_records(session, config, plan, clearml, set.samples, records);
  const Measured measured = measure(session, config, plan, set, upload,
                                    [&records] { return records->aborted() ? SIGUSR1 : stop_signal(); });
  if (measured.signal == 0) records->measured(set.stage, measured, trained);
  FitResult result;
  result.epochs = trained.epochs;
  result.steps = trained.steps;
  result.signal = measured.signal;
  result.values = measured.values;
  return ended(session, *records, result);
}

// How many threads each rank computes with; 0: its share of the cores. Without training the bits must not
// depend on how many ranks share them.
int64_t threads_of(const Session& session, const TrainerOptions& options) {
  if (options.canonical()) return 1;
  return session.line.measures() && options.threads == 0 ? 1 : options.threads;
}

ExitCode train(Session& session, const std::vector<Experiment>& experiments) {
  ClearmlAccess clearml;
  RunConfig config;
  Records records;
  try {
    config = load_run_config(session.comm(), session.line.config, sets_of(session, clearml), experiments);
    if (!session.line.dev_run.empty()) config.experiment_name = "dev_" + config.experiment_name;
    const RunNames names{config.experiment_name, config.stem};
    // Of another name than runs that train: --resume must not mistake them for such.
    if (session.line.measures()) {
      config.experiment_name = (session.line.test ? "test_" : "validate_") + config.experiment_name;
      if (config.task.task_type == "training") config.task.task_type = "testing";
    }
    if (was_completed(session, config)) return ExitCode::done;
    const Device device = start_computing(session, config.trainer, threads_of(session, config.trainer));
    limit_hangs(session, config.trainer.hang_seconds);
    session.world.heartbeat().phase(Phase::loading);
    TrainPlan plan;
    if (session.line.debug) keep_throws();  // what the config's reader threw was its own affair
    agree(session.comm(), [&] {
      seed_torch(static_cast<uint64_t>(config.trainer.seed), Purpose::init);
      plan = config.experiment.train();
    });
    return session.line.measures()
               ? measure_plan(session, device, config, std::move(plan), clearml, names, records)
               : train_plan(session, device, config, std::move(plan), clearml, records);
  } catch (const std::exception& e) {
    const Failure& failure = say_failure(session, e);
    if (records) {
      records->failed(failure);
      tell(session.result, records->record());
    } else {
      fail_agent_task(clearml, failure.message);
    }
    throw;
  }
}

ExitCode train_all(Session& session, const std::vector<Experiment>& experiments) {
  const int ranks = session.world.size(), jobs = std::max(1, static_cast<int>(session.line.configs.size()));
  int job = 0;
  if (session.line.check)
    return for_each_config(session,
                           [&] { return check_run(session, experiments, ranks_of_job(job++, ranks, jobs)); });
  if (jobs == 1) return train(session, experiments);
  return run_jobs(session, [&](Session& one) { return train(one, experiments); });
}

}  // namespace

int train_main(int argc, char** argv, const std::vector<Experiment>& experiments) {
  return run_session(Program::train, argc, argv, experiments,
                     [&](Session& session) { return train_all(session, experiments); });
}

}  // namespace lab
