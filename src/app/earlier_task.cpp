#include "app/earlier_task.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <stop_token>
#include <thread>

#include "lab/core/error.h"
#include "lab/track/clearml_fetch.h"
#include "lab/train/checkpoint.h"
#include "lab/train/step_plan.h"
#include "lab/train/tensor_buffer.h"

namespace lab {
namespace {

// A download may take longer than a rank may stand still: each second it shows that it lives. What ends a
// download that hangs is its own deadline.
class Beating {
 public:
  explicit Beating(Heartbeat& heartbeat)
      : thread_([this, &heartbeat](const std::stop_token& stop) {
          std::unique_lock lock(mutex_);
          while (!wake_.wait_for(lock, stop, std::chrono::seconds(1), [&] { return stop.stop_requested(); }))
            heartbeat.moved();
        }) {}

 private:
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::jthread thread_;
};

FetchedModel fetched(const Session& session, const RunConfig& config, const ClearmlAccess& access,
                     const ModelOfTask& model) {
  const std::string& root = config.trainer.default_root_dir;
  if (!access.settings)
    return kept_model(model, root,
                      session.line.offline ? "--offline: no server is asked"
                                           : text("there is no server to ask (", access.why_not, ")"),
                      session.log);
  FetchOptions options{.root = root};
  options.api.seed = static_cast<uint64_t>(getpid());
  const Beating beating(session.world.heartbeat());
  return fetch_model(*access.settings, model, options, session.log);
}

// What [checkpoint] and trainer.fit.ckpt_path name.
struct Beginning {
  std::string path;
  std::optional<ModelOfTask> model;  // that was fetched there
  std::string from;                  // in words
};
std::optional<Beginning> beginning_of(const Session& session, const RunConfig& config,
                                      const ClearmlAccess& access) {
  const auto& [task_id, name, weights_only] = config.checkpoint;
  const std::string& path = config.fit.ckpt_path;
  if (task_id.empty() && path.empty()) return std::nullopt;
  if (!task_id.empty() && !path.empty())
    throw ConfigError("both checkpoint.checkpoint_task_id = ", quoted(task_id),
                      " and trainer.fit.ckpt_path = ", quoted(path),
                      " say what to begin with; take one of them out");
  if (task_id.empty()) return Beginning{path, std::nullopt, path};
  const ModelOfTask model{task_id, name};
  return Beginning{fetched(session, config, access, model).path, model,
                   text(quoted(name), " from ", task_id)};
}

// `model`: what was fetched to the path, if anything was. What cannot be read may be a page of a proxy, say,
// in place of the model: then the next start asks again.
WeightsFile opened(const std::string& path, const std::optional<ModelOfTask>& model) {
  try {
    return WeightsFile(path);
  } catch (const DataError& e) {
    if (!model) throw;
    forget(path);
    throw DataError(e.what(), "; it came as the model ", quoted(model->name), " of the task ", model->task_id,
                    ", and the next start fetches it again: if it is no model on the server either, take "
                    "another of the task's models");
  }
}

}  // namespace

WeightsFile weights_file(const Session& session, const RunConfig& config, const std::string& words) {
  const auto model = model_in(words);
  return opened(model ? fetched(session, config, clearml_access(session.line.offline), *model).path : words,
                model);
}

std::optional<EarlierRun> earlier_run(const Session& session, const RunConfig& config,
                                      const ClearmlAccess& access, const TrainPlan& plan, int64_t samples) {
  const auto beginning = beginning_of(session, config, access);
  if (!beginning) return std::nullopt;
  const auto& [path, model, from] = *beginning;
  set_precision(plan.model.module(), scalar_type(config.trainer.dtype()));
  if (config.checkpoint.weights_only) {
    session.log.info("Loading weights ", from);
    load_weights(opened(path, model), plan.model.module());
    return std::nullopt;
  }
  session.log.info("Loading checkpoint ", from);
  const int64_t batch_size = std::max<int64_t>(plan.batch_size, 1);  // a wrong one is refused later
  const int64_t steps = steps_per_epoch(samples, batch_size, config.trainer.accumulate_grad_batches);
  return EarlierRun(opened(path, model), plan, std::max<int64_t>(steps, 1), session.log);
}

std::optional<WeightsFile> weights_to_measure(const Session& session, const RunConfig& config,
                                              const ClearmlAccess& access, const RunNames& names) {
  const std::string& root = config.trainer.default_root_dir;
  const auto run =
      session.line.resume ? find_run_to_measure(session.line, session.launch, names, root) : std::nullopt;
  if (run) {
    std::string path = run->checkpoint;
    if (path.empty())
      if (const auto newest = newest_checkpoint(run->folder.checkpoints(), session.log))
        path = newest->file.path();
    if (path.empty())
      throw InputNotFound(run->folder.path(), " has no checkpoint to measure; give another run or a file, ",
                          "as --resume=PATH");
    return WeightsFile(path);
  }
  if (const auto beginning = beginning_of(session, config, access))
    return opened(beginning->path, beginning->model);
  session.log.warn(
      "the model is measured as it is initialised: ",
      session.line.resume ? text("there is no run of this config in ", root) : "the config names no weights",
      "; name some by --resume=PATH, trainer.fit.ckpt_path or checkpoint.checkpoint_task_id");
  return std::nullopt;
}

std::string words_for_weights(const RunConfig& config) {
  if (!config.predict.ckpt_path.empty()) return config.predict.ckpt_path;
  const auto& [task_id, name, weights_only] = config.checkpoint;
  if (task_id.empty())
    throw UsageError("there are no weights to predict with: name them on the command line, or by ",
                     "trainer.predict.ckpt_path or checkpoint.checkpoint_task_id");
  return text("task:", task_id, "/", name);
}

}  // namespace lab
