#pragma once
// Whole runs of the trainer on numbers, each into a folder of its own.

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "group.h"
#include "lab/train/trainer.h"
#include "numbers.h"

// Keeps what a run told of its first validation, its steps and its epochs.
class Heard final : public lab::Callback {
 public:
  std::string name() const override { return "heard"; }
  lab::Signal step_finished(const lab::StepReport& report) override {
    steps.push_back(report);
    return {};
  }
  void first_validation_finished(const lab::EpochReport& report) override { first = report; }
  lab::Signal epoch_finished(const lab::EpochReport& report) override {
    epochs.push_back(report);
    return {};
  }
  lab::EpochReport first;
  std::vector<lab::StepReport> steps;
  std::vector<lab::EpochReport> epochs;
};

// 60 samples; a batch_size of 16 makes 4 steps of an epoch.
class Fitting : public testing::Test {
 protected:
  Fitting() {
    options_.max_epochs = 3;
    options_.checkpoint_every_n_steps = 1;
    options_.checkpoint_keep = 1000;
  }

  // The run `name`. `from`: the checkpoint of the run `of` from which it goes on.
  lab::FitResult fit(const std::string& name, lab::TrainPlan plan, const std::string& from = "",
                     const std::string& of = "") {
    const std::string folder = temporary_ / name;
    std::filesystem::create_directories(folder);
    std::optional<lab::SavedRun> saved;
    std::unique_ptr<lab::CheckpointSink> sink = lab::no_checkpoints();
    if (group_->rank() == 0) {
      if (!from.empty()) {
        std::filesystem::copy(temporary_ / of + "/" + from, folder);
        saved = lab::read_checkpoint(folder + "/" + from);
      }
      sink = lab::checkpoint_folder({folder, plan.monitor, plan.monitor_mode, options_.checkpoint_keep},
                                    saved ? &*saved : nullptr, lab::Log::silent());
    }
    lab::Trainer trainer(
        std::move(plan), options_,
        {*group_, lab::Log::silent(), source_, source_, *sink, {}, saved ? &*saved : nullptr});
    return trainer.fit();
  }

  // What is left of a run, on rank 0.
  std::string last(const std::string& name) const {
    return group_->rank() == 0 ? lab::test::read_bytes(temporary_ / name + "/last.safetensors") : "";
  }

  lab::Communicator* group_ = &test_group();
  const lab::test::TemporaryFolder temporary_;
  const std::shared_ptr<const lab::Source> source_ = numbers(temporary_, 60);
  lab::TrainerOptions options_;
};
