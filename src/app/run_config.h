#pragma once
// A config file as the programs use it.

#include <string>
#include <vector>

#include "lab/app/experiment.h"
#include "lab/comm/communicator.h"
#include "lab/train/options.h"

namespace lab {

// ClearML's Task.init arguments.
struct TaskOptions {
  std::string project_name = "unnamed";
  std::vector<std::string> tags;
  std::string task_type = "training";
  std::string output_uri;
  bool auto_resource_monitoring = true;
  bool store_diff = false;
  bool required = false;
};

// What an earlier task is to give.
struct CheckpointOptions {
  std::string checkpoint_task_id;
  std::string checkpoint_name = "last";
  bool weights_only = false;
};

// Lightning's Trainer.fit arguments.
struct FitOptions {
  std::string ckpt_path;
};

// Those of Trainer.predict, and lab's own.
struct PredictOptions {
  std::string ckpt_path;
  std::vector<std::string> metadata;
};

void describe(Fields<TaskOptions>& f);
void describe(Fields<CheckpointOptions>& f);
void describe(Fields<TrainerOptions>& f);
void describe(Fields<FitOptions>& f);
void describe(Fields<PredictOptions>& f);

struct RunConfig {
  std::string experiment_name, stem;  // stem: the config's file name without .toml
  TaskOptions task;
  CheckpointOptions checkpoint;
  TrainerOptions trainer;
  ConfiguredExperiment experiment;
  Resolved resolved;
  FitOptions fit;
  PredictOptions predict;
};

// Rank 0 reads the files, every rank makes the same of their bytes. Throws AgreedError with everything that
// is wrong. Every rank must call.
RunConfig load_run_config(Communicator& comm, const std::string& path, const std::vector<std::string>& sets,
                          const std::vector<Experiment>& experiments);

// The same on this process alone, whatever is wrong with it, which goes to `mistakes`: values that can't be
// used are the defaults. Throws where a file can't be read or is no TOML.
RunConfig read_run_config(const std::string& path, const std::vector<std::string>& sets,
                          const std::vector<Experiment>& experiments, Mistakes& mistakes);

// --help-config: all sections, and [config] of the experiment (all experiments when `name` is empty).
std::string config_help(const std::vector<Experiment>& experiments, const std::string& name);

}  // namespace lab
