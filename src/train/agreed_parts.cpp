#include "lab/train/agreed_parts.h"

#include <ATen/Version.h>
#include <torch/types.h>

#include "lab/train/flat.h"
#include "lab/train/step_plan.h"
#include "lab/train/tensor_buffer.h"

namespace lab {
namespace {

// Layers and their settings, as torch prints them, then each tensor.
std::string describe_model(const Model& model) {
  if (!model) return "none";
  std::string out = text(model.module(), '\n');
  for (const auto& [name, tensor] : model_tensors(model.module()))
    out += text(name, ' ', name_of(dtype_of(tensor.scalar_type())), ' ', tensor.sizes(),
                tensor.requires_grad() ? "" : ", not trained", '\n');
  return out;
}

std::string describe_frozen(const Freeze& freeze) {
  if (freeze.patterns.empty()) return "";
  return text("frozen: ", join(freeze.patterns), freeze.norms_in_eval ? ", norms in evaluation mode" : "");
}

std::string describe_plateau(const std::optional<Plateau>& plateau) {
  if (!plateau) return "";
  const Plateau& p = *plateau;
  return text("reduced on a plateau of ", p.monitor, p.mode == Mode::min ? ", the least" : ", the most",
              "\nfactor ", shortest(p.factor), "\npatience ", p.patience, "\nthreshold ",
              shortest(p.threshold), p.relative ? " of the best" : "", "\ncooldown ", p.cooldown,
              "\nleast factor ", shortest(p.min_factor), "\nleast step ", shortest(p.eps), '\n');
}

std::string describe_average(const std::optional<Ema>& ema) {
  if (!ema) return "";
  return text("\naverage of the weights with decay ", shortest(ema->decay), ema->warmup ? ", warm-up" : "",
              ema->validate ? ", validated" : "");
}

// The values of each group, and what is in it.
std::string describe_groups(const TrainPlan& plan) {
  std::string out;
  if (!plan.model) return out;
  for (const ParameterGroup& group : plan.groups) {
    out += text("\ngroup ", group.name, ": ", join(group.patterns));
    for (const auto& [name, value] :
         {std::pair("rate", group.lr), std::pair("weight decay", group.weight_decay),
          std::pair("beta1", group.beta1), std::pair("beta2", group.beta2)})
      if (value) out += text(", ", name, ' ', shortest(*value));
    for (const auto& [name, tensor] : model_tensors(plan.model.module()))
      if (group.chosen && tensor.requires_grad() && group.chosen(name, tensor)) out += text("\n  ", name);
  }
  return out;
}

// Its name, and some of its values; to six digits, as functions of the C library may differ in the last one.
std::string describe_schedule(const TrainPlan& plan, const TrainerOptions& options, int64_t samples) {
  std::string out = plan.schedule.name + "\n" + describe_plateau(plan.plateau);
  if (plan.batch_size < 1 || samples < 1) return out;
  const int64_t epoch_steps = steps_per_epoch(samples, plan.batch_size);
  const int64_t end = options.max_steps >= 0    ? options.max_steps
                      : options.max_epochs >= 0 ? options.max_epochs * epoch_steps
                                                : -1;
  if (plan.schedule.needs_end && end < 0) return out;
  for (int64_t step = 0; step < (end < 0 ? int64_t{1} << 20 : end); step += step / 8 + 1)
    out += text("factor ", plan.schedule.factor({step / epoch_steps, step, epoch_steps, end}), " in step ",
                step, '\n');
  return out;
}

std::string describe_options(const TrainerOptions& o) {
  return text("max_epochs = ", o.max_epochs, "\nmax_steps = ", o.max_steps,
              "\ncheck_val_every_n_epoch = ", o.check_val_every_n_epoch, "\nval_check_interval = ",
              std::visit([](auto limit) { return text(limit); }, o.val_check_interval),
              "\ngradient_clip_val = ", shortest(o.gradient_clip_val),
              "\ngradient_clip_algorithm = ", o.gradient_clip_algorithm,
              "\ngradient_compression = ", o.gradient_compression, "\nstrategy = ", o.strategy,
              "\nmemory_format = ", o.memory_format, "\nenable_checkpointing = ", o.enable_checkpointing,
              "\ncheckpoint_every_n_steps = ", o.checkpoint_every_n_steps,
              "\nbucket_cap_mb = ", shortest(o.bucket_cap_mb));
}

// Canonical bits depend on the instruction set; ordinary ones need not be the same.
std::string describe_numerics(const TrainerOptions& options) {
  if (!options.canonical()) return text("ordinary\n", options.precision);
  return text("canonical\n", options.precision, "\nvirtual_ranks = ", options.virtual_ranks, '\n',
              at::get_cpu_capability());
}

std::string describe_data(const DataPlan& plan, const Source* source) {
  if (!source) return "none";
  std::string out = source->identity();
  for (const Transform& transform : plan.transforms) out += transform.name + "\n";
  return out + (plan.shuffle ? "shuffled" : "in the order of the file");
}

std::string describe_measures(const TrainPlan& plan) {
  std::string out;
  for (const Metric& metric : plan.metrics) out += text("metric ", metric.name, '\n');
  for (const Figure& figure : plan.figures) out += text("figure ", figure.name, ", ", figure.numbers, '\n');
  for (const auto& callback : plan.callbacks)
    out += text("callback ", callback->name(), ' ', callback->state(), '\n');
  return text(out, "monitor ", plan.monitor, plan.monitor_mode == Mode::min ? ", the least" : ", the most");
}

}  // namespace

std::vector<AgreedPart> agreed_parts(const TrainPlan& plan, const TrainerOptions& options,
                                     const Source* train, const Source* validate, const Source* test) {
  return {{"seed", text(options.seed)},
          {"batch size", text(plan.batch_size)},
          {"numerics", describe_numerics(options)},
          {"set of trainer options", describe_options(options)},
          {"model", describe_model(plan.model) + describe_frozen(plan.freeze)},
          {"optimizer", in_words(plan.optimizer) + describe_groups(plan) + describe_average(plan.ema)},
          {"schedule", describe_schedule(plan, options, train ? train->size() : 0)},
          {"set of metrics and callbacks", describe_measures(plan)},
          {"training set", describe_data(plan.train, train)},
          {"validation set", describe_data(plan.validate, validate)},
          {"test set", describe_data(plan.test_data, test)}};
}

}  // namespace lab
