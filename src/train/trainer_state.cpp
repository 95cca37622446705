#include "train/trainer_state.h"

#include <torch/types.h>

#include <algorithm>
#include <set>

#include "lab/core/error.h"
#include "lab/train/evaluation.h"
#include "lab/train/name_template.h"
#include "lab/train/tensor_buffer.h"
#include "train/max_pool_layout.h"
#include "train/metric_values.h"

namespace lab {
namespace {

using Stage = MetricStage;

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
      numerics(
          numerics_of(options, plan, samples_of(options, Stage::train, *context.train, plan.batch_size))),
      parameters(plan.model.module(), options.memory_format == "channels_last"),
      groups(optimizer_groups(plan.optimizer, plan.groups, parameters)),
      optimizer(groups, parameters, comm, options.strategy == "zero1" ? Sharding::zero1 : Sharding::ddp,
                plan.ema),
      reducer(comm, parameters,
              {numerics, options.bucket_cap_mb, !options.sync_batchnorm,
               options.gradient_clip_val > 0 && options.gradient_clip_algorithm == "norm",
               options.gradient_compression == "bf16"}),
      buffers(plan.model.module(), leaves_of(numerics, comm.rank(), comm.size()),
              leaf_count(numerics, comm.size())),
      train_sums(leaf_count(numerics, comm.size()), columns_of(plan.metrics, MetricStage::train),
                 upload.device()),
      samples(samples_of(options, Stage::train, *context.train, plan.batch_size)),
      epoch_batches(batches_per_epoch(samples, plan.batch_size)),
      epoch_steps(steps_per_epoch(samples, plan.batch_size, numerics.accumulate)) {
  if (options.memory_format == "channels_last") detail::keep_layout_in_max_pool_backward();
  most_seconds = static_cast<double>(seconds_of(options.max_time));
  if (context.validate) {
    validation_samples = samples_of(options, Stage::validate, *context.validate, plan.batch_size);
    if (validation_samples == 0) context.validate = nullptr;
    batches_between_validations = validation_interval(options, epoch_batches);
  }
  if (overfits())
    context.log.warn("trainer.init.overfit_batches: trains on the first ", samples, " of ",
                     context.train->size(), " samples, not shuffled",
                     context.validate ? text(", and validates on the first ", validation_samples, " of ",
                                             context.validate->size())
                                      : "");
  reducer.want(optimizer.part());
  validates_first = options.num_sanity_val_steps != 0;
  if (options.precision == "16-mixed")
    loss_scale = std::make_unique<LossScale>(plan.batch_size, upload.device());
  if (plan.plateau) plan.callbacks.push_back(plateau = std::make_shared<ReduceOnPlateau>(*plan.plateau));
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
                                  upload.from(reader_options(shuffles())), std::move(next));
}

std::vector<std::string> measured_tags(const TrainPlan& plan, bool validates) {
  std::vector<std::string> tags = {"loss/train_epoch"};
  const auto append = [&](MetricStage stage) {
    for (const auto& metric : plan.metrics)
      for (auto& tag : tags_of(metric, stage)) tags.push_back(std::move(tag));
  };
  append(MetricStage::train);
  if (!plan.groups.empty()) tags.push_back("lr/rest");
  for (const auto& group : plan.groups) tags.push_back("lr/" + group.name);
  if (validates) tags.push_back("loss/validate");
  if (validates) append(MetricStage::validate);
  if (const std::set<std::string> different(tags.begin(), tags.end()); different.size() < tags.size())
    throw ConfigError("two of the experiment's metrics have the same name: ", join(tags),
                      "; give one another by lab::named");
  return tags;
}

namespace {

void check_sync_batchnorm(const torch::nn::Module& module, const TrainerOptions& options,
                          std::vector<std::string>& wrong) {
  if (options.canonical())
    wrong.push_back(
        text("trainer.init.sync_batchnorm = true is not for canonical numerics, where each of the ",
             options.virtual_ranks,
             " shards of a batch has statistics of its own on any number of ranks; take one of the "
             "two out"));
  if (const auto nameless = nameless_batch_norms_of(module); !nameless.empty())
    wrong.push_back(text("trainer.init.sync_batchnorm = true cannot reach the BatchNorm of the layers ",
                         join(nameless),
                         ": they have neither weights nor running statistics; give them affine(true) or "
                         "track_running_stats(true)"));
}

void check_numerics(const TrainerOptions& options, int ranks, std::vector<std::string>& wrong) {
  if (!options.canonical()) return;
  if (ranks > options.virtual_ranks)
    wrong.push_back(text("canonical numerics with trainer.init.virtual_ranks = ", options.virtual_ranks,
                         " run on at most that many ranks, not on ", ranks,
                         "; start fewer ranks, or raise virtual_ranks, which changes the bits"));
  if (options.gradient_compression != "none")
    wrong.push_back(
        text("trainer.init.gradient_compression = ", quoted(options.gradient_compression),
             " is not for canonical numerics: gradients are rounded once per node, so the bits would "
             "depend on how many nodes there are; take one of the two out"));
}

// What the options leave of the sets; `wrong` where that is nothing to train on.
struct Left {
  int64_t train = 0, validate = 0;
};
Left check_limits(const TrainPlan& plan, const TrainerOptions& options, const Source& train,
                  const Source* validate, std::vector<std::string>& wrong) {
  Left left;
  try {
    left.train = samples_of(options, Stage::train, train, plan.batch_size);
    if (left.train == 0)
      wrong.push_back("trainer.init.limit_train_batches = 0 leaves nothing to train on; take 1 or more");
    if (validate) left.validate = samples_of(options, Stage::validate, *validate, plan.batch_size);
    if (left.validate > 0) validation_interval(options, batches_per_epoch(left.train, plan.batch_size));
  } catch (const ConfigError& e) {
    wrong.push_back(e.what());
  }
  return left;
}

// What the plan's values say against themselves or the model.
void check_values(const TrainPlan& plan, std::vector<std::string>& wrong) {
  const auto collect = [&](const std::function<void()>& check) {
    try {
      check();
    } catch (const ConfigError& e) {
      wrong.push_back(e.what());
    }
  };
  collect([&] { check_frozen(plan.model.module(), plan.freeze); });
  if (plan.ema && !(plan.ema->decay >= 0 && plan.ema->decay <= 1))
    wrong.push_back(
        text("the decay of the weights' average is ", plan.ema->decay, "; it must be within 0 and 1"));
  collect([&] { check_groups(plan.optimizer, plan.groups, plan.model.module()); });
  collect([&] {
    if (plan.plateau) ReduceOnPlateau valid(*plan.plateau);
  });
}

void check_samples(const TrainPlan& plan, int64_t samples, std::vector<std::string>& wrong) {
  if (samples > 0 && least_samples_of(plan.model.module()) > 1 && (samples - 1) % plan.batch_size == 0)
    wrong.push_back(
        text("the last batch of each epoch would have one sample (", samples, " samples, batch_size ",
             plan.batch_size,
             "), from which the model's BatchNorm1d can't learn; choose another batch_size, or take "
             "a sample more or less"));
}

void check_tags(const TrainPlan& plan, const TrainerOptions& options, bool validates,
                std::vector<std::string>& wrong) try {
  std::set<std::string> figures;
  for (const Figure& figure : plan.figures)
    if (figure.numbers < 1 || !figures.insert(figure.name).second)
      wrong.push_back(text("the experiment's figure ", quoted(figure.name),
                           " counts no numbers or is there twice; give each a name and numbers of its own"));
  const auto tags = measured_tags(plan, validates);
  if (!plan.monitor.empty() && std::find(tags.begin(), tags.end(), plan.monitor) == tags.end())
    wrong.push_back(text("the best checkpoint is to be chosen by ", quoted(plan.monitor),
                         ", which is not measured; measured are: ", join(tags)));
  if (const auto names = NameTemplate::parse(options.checkpoint_filename)) {
    if (plan.monitor.empty())
      wrong.push_back(
          "trainer.init.checkpoint_filename names the best checkpoints, but the experiment "
          "monitors nothing; leave it out, or give its plan a monitor");
    for (const auto& tag : names->tags())
      if (std::ranges::find(tags, tag) == tags.end())
        wrong.push_back(text("trainer.init.checkpoint_filename has ", quoted(tag),
                             " in it, which is not measured; measured are: ", join(tags)));
  }
} catch (const ConfigError& e) {
  wrong.push_back(e.what());
}

}  // namespace

std::vector<std::string> mistakes_in(const TrainPlan& plan, const TrainerOptions& options, int ranks,
                                     const Source* train, const Source* validate) {
  std::vector<std::string> wrong;
  if (!plan.model) wrong.push_back("the experiment's plan has no model");
  if (!plan.loss) wrong.push_back("the experiment's plan has no loss");
  if (plan.batch_size < 1)
    wrong.push_back(text("the experiment's batch_size is ", plan.batch_size, "; it must be at least 1"));
  if (!wrong.empty()) return wrong;
  if (plan.schedule.needs_end && options.max_epochs < 0 && options.max_steps < 0)
    wrong.push_back(text("the schedule ", plan.schedule.name,
                         " must know the end of the run: set trainer.init.max_epochs or max_steps"));
  check_numerics(options, ranks, wrong);
  check_values(plan, wrong);
  if (options.sync_batchnorm) check_sync_batchnorm(plan.model.module(), options, wrong);
  if (!train) return wrong;
  const Left left = check_limits(plan, options, *train, validate, wrong);
  check_samples(plan, left.train, wrong);
  check_tags(plan, options, left.validate > 0, wrong);
  return wrong;
}

void check(const TrainPlan& plan, const TrainerOptions& options, const TrainerContext& context) {
  if (context.train->size() == 0)
    throw DataError("the training set in ", context.train->path(),
                    " has no samples; give it a file that has, or take more of it");
  const auto wrong =
      mistakes_in(plan, options, context.comm.size(), context.train.get(), context.validate.get());
  if (!wrong.empty()) throw ConfigError(join(wrong, "\n"));
}

}  // namespace lab
