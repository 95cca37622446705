#include "app/run_config.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "lab/comm/agreement.h"
#include "lab/config/document.h"
#include "lab/core/error.h"
#include "lab/train/name_template.h"

namespace lab {
namespace {

Constraint power_of_two(int64_t most) {
  return {.text = text("a power of two up to ", most), .check = [most](const Value& value) {
            const auto* n = std::get_if<int64_t>(&value.data);
            return n && *n >= 1 && *n <= most && (*n & (*n - 1)) == 0;
          }};
}

// A number of batches, or a share of them.
Constraint batches() {
  return {.text = "a number of batches, or a share of them from 0.0 to 1.0", .check = [](const Value& value) {
            if (const auto* count = std::get_if<int64_t>(&value.data)) return *count >= 0;
            const auto* share = std::get_if<double>(&value.data);
            return share && *share >= 0 && *share <= 1;
          }};
}

Constraint interval() {
  return {.text = "a number of batches from 1 on, or a share of an epoch's up to 1.0",
          .check = [](const Value& value) {
            if (const auto* count = std::get_if<int64_t>(&value.data)) return *count >= 1;
            const auto* share = std::get_if<double>(&value.data);
            return share && *share > 0 && *share <= 1;
          }};
}

// Of a field that may be something else than a string.
Constraint string_among(const std::string& text, std::vector<std::string> names) {
  return {.text = text,
          .check =
              [names](const Value& value) {
                const auto* name = std::get_if<std::string>(&value.data);
                return !name || std::ranges::find(names, *name) != names.end();
              },
          .names = names};
}

Constraint positive_if_number(const std::string& text) {
  return {.text = text, .check = [](const Value& value) {
            const auto* number = std::get_if<int64_t>(&value.data);
            return !number || *number > 0;
          }};
}

Constraint name_template() {
  return {.text =
              "a file name with {epoch} or {step} in it, and {TAG} for what was measured, each also with "
              "a format, as {TAG:.3f}",
          .check = [](const Value& value) {
            const auto* name = std::get_if<std::string>(&value.data);
            return name && (name->empty() || NameTemplate::parse(*name));
          }};
}

Constraint at_least_one_or_all() {
  return {.text = "at least 1, or -1 for all", .check = [](const Value& value) {
            const auto* number = std::get_if<int64_t>(&value.data);
            return number && (*number == -1 || *number >= 1);
          }};
}

Constraint duration() {
  return {.text = "days, hours, minutes and seconds, as \"01:12:00:00\"", .check = [](const Value& value) {
            const auto* time = std::get_if<std::string>(&value.data);
            return time && (time->empty() || seconds_of(*time) > 0);
          }};
}

}  // namespace

void describe(Fields<TaskOptions>& f) {
  using T = TaskOptions;
  f("project_name", &T::project_name, not_empty(), "ClearML project");
  f("tags", &T::tags, "ClearML tags of the task");
  f("task_type", &T::task_type,
    one_of({"training", "testing", "inference", "data_processing", "application", "monitor", "controller",
            "optimizer", "service", "qc", "custom"}),
    "ClearML task type");
  f("output_uri", &T::output_uri,
    "where models go: \"\" or \"true\": the server's files, a folder (a path or file://), \"false\": they "
    "stay");
  f("auto_resource_monitoring", &T::auto_resource_monitoring, "record the machine's load too");
  f("store_diff", &T::store_diff, "send what is not committed in the repository (git diff)");
  f("required", &T::required, "no run without the ClearML server");
}

void describe(Fields<CheckpointOptions>& f) {
  using C = CheckpointOptions;
  f("checkpoint_task_id", &C::checkpoint_task_id, "an earlier task whose model to start from");
  f("checkpoint_name", &C::checkpoint_name, not_empty(),
    "which of its models: last, best or another output model's name");
  f("weights_only", &C::weights_only, "true: take the weights only; epoch and optimizer start fresh");
}

void describe(Fields<TrainerOptions>& f) {
  using T = TrainerOptions;
  f("max_epochs", &T::max_epochs, at_least(-1), "epochs to train; -1: no end but by a callback or max_steps");
  f("max_steps", &T::max_steps, at_least(-1), "optimizer steps to train; -1: no limit");
  f("min_epochs", &T::min_epochs, at_least(0), "callbacks and max_time can't stop the run before so many");
  f("min_steps", &T::min_steps, at_least(0), "nor before so many optimizer steps");
  f("max_time", &T::max_time, duration(),
    "DD:HH:MM:SS after which a start ends, saved; --resume goes on for as long again; \"\": no limit");
  f("limit_train_batches", &T::limit_train_batches, batches(), "how much of each epoch is trained on");
  f("limit_val_batches", &T::limit_val_batches, batches(),
    "how much of the validation set is used, from its begin; 0: no validation");
  f("limit_test_batches", &T::limit_test_batches, batches(),
    "how much of the test set --test uses, from its begin");
  f("limit_predict_batches", &T::limit_predict_batches, batches(), "how much lab_infer predicts");
  f("overfit_batches", &T::overfit_batches, batches(),
    "0: off; else so much of both sets, unshuffled, to see that a model can learn them by heart");
  f("fast_dev_run", &T::fast_dev_run, positive_if_number("true, false or a number of batches"),
    "one epoch of so many batches (true: 1), nothing saved: to see that all of it works");
  f("accumulate_grad_batches", &T::accumulate_grad_batches, at_least(1),
    "batches of batch_size that make one optimizer step; the last step of an epoch may have fewer");
  f("log_every_n_steps", &T::log_every_n_steps, at_least(1), "how often loss/train_step is recorded");
  f("check_val_every_n_epoch", &T::check_val_every_n_epoch, at_least(1),
    "validate after every so many epochs");
  f("val_check_interval", &T::val_check_interval, interval(),
    "and within such an epoch each time so many batches are done, or such a share of its batches; 1.0: at "
    "its end alone");
  f("num_sanity_val_steps", &T::num_sanity_val_steps, at_least(-1),
    "how many batches are validated before the first step; -1: all, 0: that validation is left out");
  f("gradient_clip_val", &T::gradient_clip_val, at_least(0), "bound of the mean gradient; 0: no clipping");
  f("gradient_clip_algorithm", &T::gradient_clip_algorithm, one_of({"norm", "value"}),
    "what the bound is of: the norm, or each value");
  f("gradient_compression", &T::gradient_compression, one_of({"none", "bf16"}),
    "bf16: gradients of 32 bits take half the bytes between nodes, rounded; not for canonical numerics");
  f("sync_batchnorm", &T::sync_batchnorm,
    "BatchNorm learns from the whole batch of all ranks, not from each rank's share");
  f("strategy", &T::strategy, one_of({"ddp", "zero1"}),
    "zero1: each rank keeps and updates its part of the optimizer's state alone, which takes less memory");
  f("precision", &T::precision, one_of({"32-true", "64-true", "bf16-mixed", "16-mixed", "bf16-true"}),
    "floats of parameters and data; bf16-mixed, 16-mixed: matrix products and convolutions round to 16 bits, "
    "all else keeps 32, and for 16-mixed the loss is scaled; bf16-true: parameters and layers have 16, "
    "gradients are summed with 32");
  f("memory_format", &T::memory_format, one_of({"contiguous", "channels_last"}),
    "channels_last: Conv2d layers, and those behind them, keep the channels of a pixel side by side");
  f("accelerator", &T::accelerator, one_of({"auto", "cpu", "gpu"}), "what to compute on");
  f("matmul_precision", &T::matmul_precision, one_of({"highest", "high", "medium"}),
    "high, medium: products of 32-bit matrices may round them to 19 or 16 bits where that is faster");
  f("devices", &T::devices, string_among("\"auto\" or a number of ranks", {"auto"}),
    positive_if_number("\"auto\" or a number of ranks"),
    "ranks per node, one for each GPU; mpirun or Slurm start them, this is held against it");
  f("num_nodes", &T::num_nodes, at_least(1), "likewise; with devices = \"auto\" held against nothing");
  f("deterministic", &T::deterministic, string_among("true, false or \"warn\"", {"warn"}),
    "torch refuses (\"warn\": tells of) what it can't compute with the same bits again; on GPUs that is "
    "slower");
  f("benchmark", &T::benchmark, "cuDNN tries its algorithms for each new shape, and takes the fastest");
  f("detect_anomaly", &T::detect_anomaly, "autograd names the forward operation of a NaN; slow");
  f("on_non_finite", &T::on_non_finite, one_of({"stop", "skip", "roll_back"}),
    "NaN or infinity in a step's loss or gradients: stop; skip the step and say which samples; or roll_back "
    "to the last checkpoint's weights, and go on with the samples behind it");
  f("inference_mode", &T::inference_mode,
    "validation and prediction on processors without what autograd keeps; false, and on GPUs: no_grad");
  f("enable_model_summary", &T::enable_model_summary, "a table of the layers before training");
  f("default_root_dir", &T::default_root_dir, not_empty(), "where run folders are made");
  f("enable_progress_bar", &T::enable_progress_bar, "a bar on a terminal; plain lines are always written");
  f("enable_checkpointing", &T::enable_checkpointing, "write last and best checkpoints");
  f("checkpoint_every_n_epochs", &T::checkpoint_every_n_epochs, at_least(1),
    "save at the end of each so many epochs, and at the end of the run");
  f("checkpoint_every_n_steps", &T::checkpoint_every_n_steps, at_least(0),
    "save after every so many steps too; 0: at the end of each epoch only");
  f("checkpoint_every_minutes", &T::checkpoint_every_minutes, at_least(0),
    "save when the last checkpoint is so old; 0: at the end of each epoch only");
  f("checkpoint_keep", &T::checkpoint_keep, at_least_one_or_all(),
    "how many of the newest checkpoints stay, beside the best; -1: all");
  f("checkpoint_top_k", &T::checkpoint_top_k, at_least_one_or_all(),
    "how many of the best stay, by what the experiment monitors (Lightning's save_top_k); -1: all");
  f("checkpoint_filename", &T::checkpoint_filename, name_template(),
    "a further name for each of these, as \"digits-{epoch:03d}-{accuracy/validate:.4f}\"; \"\": none");
  f("on_checkpoint_error", &T::on_checkpoint_error, one_of({"stop", "continue"}),
    "when a checkpoint cannot be written");
  f("hang_seconds", &T::hang_seconds, at_least(0),
    "a rank that stands still for so long, and for 50 median steps, ends the job; 0: never");
  f("seed", &T::seed, at_least(0), "of weights, order, augmentation and dropout");
  f("numerics", &T::numerics, one_of({"ordinary", "canonical"}),
    "canonical: the same bits on any number of ranks up to virtual_ranks");
  f("virtual_ranks", &T::virtual_ranks, power_of_two(1024), "canonical: shards of each global batch");
  f("threads", &T::threads, between(0, 4096),
    "per rank; 0: the rank's share of its cores (canonical: always 1)");
  f("bucket_cap_mb", &T::bucket_cap_mb, above(0), "MiB of gradients that are sent together");
}

void describe(Fields<FitOptions>& f) {
  f("ckpt_path", &FitOptions::ckpt_path,
    "a checkpoint file (lab's or Lightning's) that a new run goes on from");
}

void describe(Fields<PredictOptions>& f) {
  using P = PredictOptions;
  f("ckpt_path", &P::ckpt_path,
    "weights that lab_infer takes where its command line names none: a file, or task:ID/NAME; without it "
    "those of [checkpoint]");
  f("metadata", &P::metadata,
    "what of each sample goes into the predictions too: numbers or texts of the data file, by name");
}

namespace {

std::vector<std::string> names_of(const std::vector<Experiment>& experiments) {
  std::vector<std::string> names;
  for (const auto& experiment : experiments) names.push_back(experiment.name);
  return names;
}

const Experiment* chosen(const Table& root, const std::string& path,
                         const std::vector<Experiment>& experiments, Resolved& resolved, Mistakes& mistakes) {
  const Value* name = find(root, "experiment");
  const auto names = names_of(experiments);
  if (!name) {
    mistakes.add({path, 0, 0}, text("experiment is missing; say which, as in experiment = ",
                                    quoted(names.front()), "; known: ", join(names)));
    return nullptr;
  }
  const auto* wanted = std::get_if<std::string>(&name->data);
  for (const auto& experiment : experiments)
    if (wanted && experiment.name == *wanted) {
      resolved.push_back({"experiment", *name});
      return &experiment;
    }
  const std::string near = wanted ? nearest_name(*wanted, names) : "";
  mistakes.add(name->origin, text("unknown experiment ", name->toml(),
                                  near.empty() ? "" : text("; did you mean ", quoted(near), "?"),
                                  "; known: ", join(names)));
  return nullptr;
}

// Arguments of Task.init that lab does not take, and why.
const std::map<std::string, std::string> other_task_arguments = {
    {"task_name", "the name is made from the experiment, the config's file name and a version"},
    {"reuse_last_task_id", "each run is a task of its own; --resume goes on with one"},
    {"continue_last_task", "each run is a task of its own; --resume goes on with one"},
    {"auto_connect_arg_parser", "the command line is always recorded"},
    {"auto_connect_frameworks", "scalars, figures and models are always recorded"},
    {"auto_connect_streams", "the console is always recorded"},
    {"deferred_init", "the server is waited for up to 5 seconds; required = true: no run without it"}};

// Likewise of Lightning's Trainer.
const std::map<std::string, std::string> other_trainer_arguments = {
    {"logger", "metrics.csv, TensorBoard and ClearML (unless --offline) always get what is measured"},
    {"callbacks", "an experiment adds them to its plan, in C++"},
    {"profiler", "perf and nsys look into the program as it is"},
    {"barebones", "nothing that a run does beside training takes a part of a step worth leaving out"},
    {"plugins", "there are none; --backend says how ranks talk, and strategy who keeps what"},
    {"use_distributed_sampler", "each rank always reads its share of every batch"},
    {"reload_dataloaders_every_n_epochs", "transforms see the epoch's number, so data may change with it"},
    {"enable_autolog_hparams", "the config is always recorded"},
    {"model_registry", "ClearML keeps the models: task.output_uri says where"},
};

// Likewise of Trainer.predict.
const std::map<std::string, std::string> other_predict_arguments = {
    {"return_predictions", "predictions always go to the file that lab_infer's command line names"},
    {"model", "the experiment makes it"},
    {"dataloaders", "lab_infer's command line names the data"},
    {"datamodule", "lab_infer's command line names the data"},
    {"weights_only", "nothing but tensors and plain values is ever read from a file"}};

// Arguments of the table at [section] or [section.inner] that lab does not take.
void refuse_arguments(Table& root, const std::vector<std::string>& path,
                      const std::map<std::string, std::string>& others, Mistakes& mistakes) {
  Table* table = &root;
  for (const auto& name : path) {
    Table::Entry* entry = table->find(name);
    table = entry ? std::get_if<Table>(&entry->value.data) : nullptr;
    if (!table) return;
  }
  std::erase_if(table->entries, [&](const Table::Entry& argument) {
    const auto other = others.find(argument.key);
    if (other == others.end()) return false;
    mistakes.add(argument.origin,
                 text("lab does not take ", join(path, "."), ".", argument.key, ": ", other->second));
    return true;
  });
}

RunConfig read_config(const ConfigFiles& files, const std::vector<std::string>& sets,
                      const std::vector<Experiment>& experiments, Mistakes& mistakes) {
  const std::string& path = files.files.front().first;
  Table root = merge_config(files, sets);
  refuse_arguments(root, {"task"}, other_task_arguments, mistakes);
  refuse_arguments(root, {"trainer", "init"}, other_trainer_arguments, mistakes);
  refuse_arguments(root, {"trainer", "predict"}, other_predict_arguments, mistakes);
  RunConfig config;
  config.stem = std::filesystem::path(path).stem().string();
  refuse_unknown(root, "", {"experiment", "extends", "task", "checkpoint", "trainer", "config"}, mistakes);
  refuse_unknown(root, "trainer", {"init", "fit", "predict"}, mistakes);
  const Experiment* experiment = chosen(root, path, experiments, config.resolved, mistakes);
  config.task = read_fields<TaskOptions>(root, "task", config.resolved, mistakes);
  config.checkpoint = read_fields<CheckpointOptions>(root, "checkpoint", config.resolved, mistakes);
  config.trainer =
      with_fast_dev_run(read_fields<TrainerOptions>(root, "trainer.init", config.resolved, mistakes));
  config.fit = read_fields<FitOptions>(root, "trainer.fit", config.resolved, mistakes);
  config.predict = read_fields<PredictOptions>(root, "trainer.predict", config.resolved, mistakes);
  if (experiment) {
    config.experiment_name = experiment->name;
    config.experiment = experiment->configure(root, config.resolved, mistakes);
  }
  return config;
}

}  // namespace

RunConfig read_run_config(const std::string& path, const std::vector<std::string>& sets,
                          const std::vector<Experiment>& experiments, Mistakes& mistakes) {
  return read_config(read_config_files(path), sets, experiments, mistakes);
}

RunConfig load_run_config(Communicator& comm, const std::string& path, const std::vector<std::string>& sets,
                          const std::vector<Experiment>& experiments) {
  std::string bytes;
  agree(comm, [&] {
    if (comm.rank() == 0) bytes = read_config_files(path).to_bytes();
  });
  bytes = broadcast_bytes(comm, bytes);
  RunConfig config;
  agree(comm, [&] {
    Mistakes mistakes;
    config = read_config(ConfigFiles::from_bytes(bytes), sets, experiments, mistakes);
    mistakes.throw_if_any();
  });
  return config;
}

std::string config_help(const std::vector<Experiment>& experiments, const std::string& name) {
  std::string out =
      "experiment = \"NAME\"   which experiment: " + join(names_of(experiments)) +
      "\nextends = \"FILE\"      or a list of files, relative to this one: values to begin with\n\n";
  out += help_text("task", fields_of<TaskOptions>()) + "\n";
  out += help_text("checkpoint", fields_of<CheckpointOptions>()) + "\n";
  out += help_text("trainer.init", fields_of<TrainerOptions>()) + "\n";
  out += help_text("trainer.fit", fields_of<FitOptions>()) + "\n";
  out += help_text("trainer.predict", fields_of<PredictOptions>());
  for (const auto& experiment : experiments)
    if (name.empty() || name == experiment.name)
      out += text("\nof the experiment ", experiment.name, ":\n", help_text("config", experiment.fields()));
  return out;
}

}  // namespace lab
