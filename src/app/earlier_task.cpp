#include "app/earlier_task.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <stop_token>
#include <thread>

#include "lab/track/clearml_fetch.h"
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
  const auto& [task_id, name, weights_only] = config.checkpoint;
  std::string path = config.fit.ckpt_path;
  if (task_id.empty() && path.empty()) return std::nullopt;
  if (!task_id.empty() && !path.empty())
    throw ConfigError("both checkpoint.checkpoint_task_id = ", quoted(task_id),
                      " and trainer.fit.ckpt_path = ", quoted(path),
                      " say what to begin with; take one of them out");
  std::optional<ModelOfTask> model;
  if (!task_id.empty()) model = ModelOfTask{task_id, name};
  if (model) path = fetched(session, config, access, *model).path;
  set_precision(plan.model.module(), scalar_type(config.trainer.dtype()));
  const std::string from = model ? text(quoted(name), " from ", task_id) : path;
  if (weights_only) {
    session.log.info("Loading weights ", from);
    load_weights(opened(path, model), plan.model.module());
    return std::nullopt;
  }
  session.log.info("Loading checkpoint ", from);
  const int64_t batch_size = std::max<int64_t>(plan.batch_size, 1);  // a wrong one is refused later
  const int64_t steps = steps_per_epoch(samples, batch_size, config.trainer.accumulate_grad_batches);
  return EarlierRun(opened(path, model), plan, std::max<int64_t>(steps, 1), session.log);
}

}  // namespace lab
