#include "train/trainer_state.h"

#include <torch/types.h>

#include <algorithm>
#include <set>

#include "lab/core/error.h"
#include "lab/train/tensor_buffer.h"

namespace lab {
namespace {

Numerics numerics_of(const TrainerOptions& options, const TrainPlan& plan, int64_t samples) {
  return {options.canonical(), options.virtual_ranks, least_samples_of(plan.model.module()),
          std::min(options.accumulate_grad_batches, batches_per_epoch(samples, plan.batch_size)),
          options.sync_batchnorm};
}

}  // namespace

Trainer::State::State(TrainPlan p, TrainerOptions o, TrainerContext c)
    : plan(std::move(p)),
      options(std::move(o)),
      context(std::move(c)),
      comm(context.comm),
      upload(context.device),
      numerics(numerics_of(options, plan, context.train->size())),
      parameters(plan.model.module(), options.memory_format == "channels_last"),
      optimizer(plan.optimizer, parameters, comm,
                options.strategy == "zero1" ? Sharding::zero1 : Sharding::ddp),
      reducer(comm, parameters,
              {numerics, options.bucket_cap_mb, !options.sync_batchnorm,
               options.gradient_clip_val > 0 && options.gradient_clip_algorithm == "norm",
               options.gradient_compression == "bf16"}),
      buffers(plan.model.module(), leaves_of(numerics, comm.rank(), comm.size()),
              leaf_count(numerics, comm.size())),
      train_sums(leaf_count(numerics, comm.size()), 1 + static_cast<int64_t>(plan.metrics.size()),
                 upload.device()),
      samples(context.train->size()),
      epoch_batches(batches_per_epoch(samples, plan.batch_size)),
      epoch_steps(steps_per_epoch(samples, plan.batch_size, numerics.accumulate)) {
  reducer.want(optimizer.part());
  if (options.sync_batchnorm) sync = std::make_unique<SyncBatchNorm>(plan.model.module(), comm);
  if (options.max_epochs >= 0) total_steps = options.max_epochs * epoch_steps;
  if (options.max_steps >= 0)
    total_steps = total_steps < 0 ? options.max_steps : std::min(total_steps, options.max_steps);
}

std::unique_ptr<Reader> Trainer::State::open_reader() const {
  auto next = [this, step = steps, list = std::vector<MicroBatch>(),
               at = size_t{0}]() mutable -> std::optional<BatchRequest> {
    if (at == list.size()) {
      if (total_steps >= 0 && step >= total_steps) return std::nullopt;
      list = micro_batches_of(step++);
      at = 0;
    }
    const auto epoch = static_cast<uint64_t>((step - 1) / epoch_steps);
    return BatchRequest{epoch, list[at++].positions};
  };
  return std::make_unique<Reader>(context.train, plan.train.transforms,
                                  upload.from(reader_options(plan.train.shuffle)), std::move(next));
}

std::vector<std::string> measured_tags(const TrainPlan& plan, bool validates) {
  std::vector<std::string> tags = {"loss/train_epoch"};
  for (const auto& metric : plan.metrics) tags.push_back(metric.name + "/train");
  if (validates) tags.push_back("loss/validate");
  for (const auto& metric : plan.metrics)
    if (validates) tags.push_back(metric.name + "/validate");
  return tags;
}

namespace {

void check_sync_batchnorm(const torch::nn::Module& module, const TrainerOptions& options) {
  if (options.canonical())
    throw ConfigError("trainer.init.sync_batchnorm = true is not for canonical numerics, where each of the ",
                      options.virtual_ranks,
                      " shards of a batch has statistics of its own on any number of ranks; take one of the "
                      "two out");
  if (const auto nameless = nameless_batch_norms_of(module); !nameless.empty())
    throw ConfigError("trainer.init.sync_batchnorm = true cannot reach the BatchNorm of the layers ",
                      join(nameless),
                      ": they have neither weights nor running statistics; give them affine(true) or "
                      "track_running_stats(true)");
}

}  // namespace

void check(const TrainPlan& plan, const TrainerOptions& options, const TrainerContext& context) {
  if (!plan.model) throw ConfigError("the experiment's plan has no model");
  if (!plan.loss) throw ConfigError("the experiment's plan has no loss");
  if (plan.batch_size < 1)
    throw ConfigError("the experiment's batch_size is ", plan.batch_size, "; it must be at least 1");
  if (plan.schedule.needs_end && options.max_epochs < 0 && options.max_steps < 0)
    throw ConfigError("the schedule ", plan.schedule.name,
                      " must know the end of the run: set trainer.init.max_epochs or max_steps");
  const int ranks = context.comm.size();
  if (options.canonical() && ranks > options.virtual_ranks)
    throw ConfigError("canonical numerics with trainer.init.virtual_ranks = ", options.virtual_ranks,
                      " run on at most that many ranks, not on ", ranks,
                      "; start fewer ranks, or raise virtual_ranks, which changes the bits");
  if (options.canonical() && options.gradient_compression != "none")
    throw ConfigError(
        "trainer.init.gradient_compression = ", quoted(options.gradient_compression),
        " is not for canonical numerics: gradients are rounded once per node, so the bits would "
        "depend on how many nodes there are; take one of the two out");
  if (options.sync_batchnorm) check_sync_batchnorm(plan.model.module(), options);
  if (context.train->size() == 0)
    throw DataError("the training set in ", context.train->path(),
                    " has no samples; give it a file that has, or take more of it");
  const int64_t samples = context.train->size();
  if (least_samples_of(plan.model.module()) > 1 && (samples - 1) % plan.batch_size == 0)
    throw ConfigError("the last batch of each epoch would have one sample (", samples,
                      " samples, batch_size ", plan.batch_size,
                      "), from which the model's BatchNorm1d can't learn; choose another batch_size, or take "
                      "a sample more or less");
  std::set<std::string> figures;
  for (const Figure& figure : plan.figures)
    if (figure.numbers < 1 || !figures.insert(figure.name).second)
      throw ConfigError("the experiment's figure ", quoted(figure.name),
                        " counts no numbers or is there twice; give each a name and numbers of its own");
  const auto tags = measured_tags(plan, context.validate != nullptr);
  if (!plan.monitor.empty() && std::find(tags.begin(), tags.end(), plan.monitor) == tags.end())
    throw ConfigError("the best checkpoint is to be chosen by ", quoted(plan.monitor),
                      ", which is not measured; measured are: ", join(tags));
}

}  // namespace lab
