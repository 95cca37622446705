#include "lab/train/trainer.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <torch/nn.h>

#include <filesystem>
#include <numeric>

#include "apart.h"
#include "group.h"
#include "lab/comm/agreement.h"
#include "numbers.h"

namespace lab {
namespace {

constexpr int64_t samples = 60, features = number_features, epoch_steps = 4;  // of 16, the last of 12

// Counts epochs in steps of its own, and stops the run at a count.
class Counting final : public Callback {
 public:
  Counting(int64_t by, int64_t last) : by_(by), last_(last) {}
  std::string name() const override { return "counting"; }
  Signal epoch_finished(const EpochReport&) override {
    count_ += by_;
    return {count_ >= last_, text("counted to ", count_)};
  }
  std::string state() const override { return std::to_string(count_); }
  void restore(const std::string& state) override { count_ = std::stoll(state); }

 private:
  int64_t by_, last_, count_ = 0;
};

// Notes whether a first validation is announced, and whether it comes.
class Watching final : public Callback {
 public:
  std::string name() const override { return "watching"; }
  void fit_started(const FitReport& report) override { announced = report.validates_first; }
  void first_validation_finished(const EpochReport&) override { came = true; }
  bool announced = false, came = false;
};

TrainPlan plan() {
  torch::manual_seed(3);
  torch::nn::Sequential net(torch::nn::Linear(features, 8), torch::nn::BatchNorm1d(8), torch::nn::ReLU(),
                            torch::nn::Dropout(0.3), torch::nn::Linear(8, 1500),  // so that ranks have parts
                            torch::nn::ReLU(), torch::nn::Linear(1500, 3));
  return {.model = {net, "x"},
          .loss = cross_entropy(),
          .optimizer = AdamW{.lr = 0.05},
          .schedule = warmup_cosine(),
          .train = {.shuffle = true},
          .batch_size = 16,
          .metrics = {accuracy()},
          .monitor = "loss/validate",
          .callbacks = {std::make_shared<Counting>(1, 1000), std::make_shared<Counting>(10, 1000)}};
}

class FitTest : public testing::Test {
 protected:
  FitTest() {
    options_.max_epochs = 3;
    options_.checkpoint_every_n_steps = 1;
    options_.checkpoint_keep = 1000;
  }

  // Into `folder` on rank 0. `from`: the checkpoint there to go on from.
  FitResult fit(
      const std::string& folder, const std::string& from = "", TrainPlan what = plan(),
      std::function<int()> stop_signal = [] { return 0; }) {
    std::optional<SavedRun> saved;
    std::unique_ptr<CheckpointSink> sink = no_checkpoints();
    if (comm_.rank() == 0) {
      if (!from.empty()) saved = read_checkpoint(folder + "/" + from);
      CheckpointPlan checkpoints{folder, what.monitor, what.monitor_mode, options_.checkpoint_keep};
      sink = checkpoint_folder(checkpoints, saved ? &*saved : nullptr, Log::silent());
    }
    Trainer trainer(std::move(what), options_,
                    {*group_,
                     Log::silent(),
                     source_,
                     source_,
                     *sink,
                     {},
                     saved ? &*saved : nullptr,
                     stop_signal,
                     begins_});
    return trainer.fit();
  }

  // Three epochs, and again from each of their checkpoints.
  void goes_on_from_any_step(int64_t batch_size, int64_t steps) {
    const auto batched = [&] {
      TrainPlan what = plan();
      what.batch_size = batch_size;
      return what;
    };
    const std::string whole = folder(text("whole", batch_size));
    EXPECT_EQ(fit(whole, "", batched()).steps, 3 * steps);
    for (int64_t step = 1; step < 3 * steps; ++step) {
      const std::string checkpoint = text("epoch=", (step - 1) / steps, "-step=", step, ".safetensors");
      const std::string part = folder(text(checkpoint, batch_size));
      if (comm_.rank() == 0) std::filesystem::copy(whole + "/" + checkpoint, part);
      EXPECT_EQ(fit(part, checkpoint, batched()).steps, 3 * steps) << checkpoint;
      EXPECT_TRUE(last(part) == last(whole)) << checkpoint;
    }
  }

  std::string last(const std::string& folder) const {
    return comm_.rank() == 0 ? test::read_bytes(folder + "/last.safetensors") : "";
  }
  std::string folder(const std::string& name) const {
    std::filesystem::create_directories(temporary_ / name);
    return temporary_ / name;
  }

  Communicator& comm_ = test_group();
  Communicator* group_ = &comm_;  // the trainer's
  const test::TemporaryFolder temporary_;
  const std::shared_ptr<const Source> source_ = numbers(temporary_, samples);
  TrainerOptions options_;
  bool begins_ = false;  // what it goes on from is another run's
};

struct Way {
  const char *numerics, *strategy;
};

class TrainerTest : public FitTest, public testing::WithParamInterface<Way> {
 protected:
  TrainerTest() {
    options_.numerics = GetParam().numerics;
    options_.strategy = GetParam().strategy;
  }
};

TEST_P(TrainerTest, GoesOnFromAnyStepBitForBit) { goes_on_from_any_step(plan().batch_size, epoch_steps); }

TEST_P(TrainerTest, GoesOnFromAnyStepOfSeveralBatches) {
  options_.accumulate_grad_batches = 4;
  goes_on_from_any_step(7, 3);  // 9 batches: 4, 4 and 1
}

// One rank is asked for a stop while all validate before the first step.
TEST_P(TrainerTest, StopsInTheFirstValidation) {
  int asked = 0;
  const auto interrupted = [&] { return comm_.rank() == 0 && ++asked > 0 ? SIGINT : 0; };
  const auto stopped = fit(folder("stopped"), "", plan(), interrupted);
  EXPECT_EQ(stopped.signal, SIGINT);
  EXPECT_EQ(stopped.steps, 0);
  EXPECT_TRUE(stopped.saved);
  const std::string start = "epoch=0-step=0.safetensors";
  if (comm_.rank() == 0) std::filesystem::copy(temporary_ / "stopped/" + start, folder("on"));
  comm_.barrier();
  EXPECT_EQ(fit(folder("on"), start).steps, fit(folder("whole")).steps);
  EXPECT_EQ(last(folder("on")), last(folder("whole")));
}

TEST_P(TrainerTest, AStopThatOneRankIsAskedForSavesAllAtTheSameStep) {
  const std::string whole = folder("whole"), part = folder("part");
  fit(whole);
  int asked = 0;  // after the first validation: once in each step
  const auto on_the_last_rank = [&]() -> int {
    return comm_.rank() == comm_.size() - 1 && ++asked > 8 ? SIGINT : 0;
  };
  const FitResult stopped = fit(part, "", plan(), on_the_last_rank);
  EXPECT_EQ(stopped.signal, SIGINT);
  EXPECT_TRUE(stopped.saved);
  EXPECT_GT(stopped.steps, 0);
  EXPECT_LT(stopped.steps, 3 * epoch_steps);
  require_equal(comm_, {"steps", text(stopped.steps)});
  const FitResult result = fit(part, "last.safetensors");
  EXPECT_EQ(result.signal, 0);
  EXPECT_TRUE(last(part) == last(whole));
}

TEST_P(TrainerTest, ARunValidatesBeforeItsFirstStepAndSaysSo) {
  const std::string path = folder("run");
  const auto expect = [&](const std::string& from, bool validates) {
    const auto watching = std::make_shared<Watching>();
    TrainPlan watched = plan();
    watched.callbacks = {watching};
    fit(path, from, watched);
    EXPECT_EQ(watching->came, validates) << from << begins_;
    EXPECT_EQ(watching->announced, validates) << from << begins_;
  };
  expect("", true);
  expect("epoch=1-step=6.safetensors", false);  // it goes on
  begins_ = true;
  expect("epoch=1-step=6.safetensors", true);
}

TEST_P(TrainerTest, ARunThatACallbackHasStoppedStaysStopped) {
  const std::string path = folder("run");
  TrainPlan stops = plan();
  stops.callbacks = {std::make_shared<Counting>(1, 2)};
  const FitResult first = fit(path, "", stops);
  EXPECT_EQ(first.stopped_by, "counted to 2");
  EXPECT_EQ(first.epochs, 2);
  stops = plan();
  stops.callbacks = {std::make_shared<Counting>(1, 2)};
  const FitResult again = fit(path, "last.safetensors", stops);
  EXPECT_EQ(again.steps, first.steps);
  EXPECT_EQ(again.stopped_by, first.stopped_by);
  EXPECT_EQ(again.values, first.values);
}

TEST_P(TrainerTest, ACheckpointOfAnotherPlanIsRefusedOnAllRanks) {
  const std::string path = folder("run");
  fit(path);
  const std::string middle = "epoch=1-step=6.safetensors";
  const auto refused = [&](TrainPlan other, const std::string& words) {
    std::string said;
    try {
      fit(path, middle, std::move(other));
    } catch (const AgreedError& e) {
      said = e.what();
    }
    EXPECT_NE(said.find(words), std::string::npos) << said;
  };
  TrainPlan other = plan();
  other.metrics.clear();
  refused(other, "the sums of 1 metrics, this run has 0");
  other = plan();
  other.optimizer = SGD{};
  refused(other, "a run with AdamW, this one has SGD");
  other = plan();
  other.model = {torch::nn::Sequential(torch::nn::Linear(features, 3)), "x"};
  refused(other, "another model");
}

// Keeps what was drawn.
class Seeing final : public Callback {
 public:
  std::string name() const override { return "seeing"; }
  Signal epoch_finished(const EpochReport& report) override {
    for (const auto& [name, drawing] : report.figures) seen.push_back(name + " " + drawing.title);
    return {};
  }
  std::vector<std::string> seen;
};

TEST_P(TrainerTest, AFigureIsDrawnOfAllSamplesOnceAnEpoch) {
  const auto sums_as_words = [](std::span<const double> sums) {
    return Drawing{.title = text(sums[0], " ", sums[1])};
  };
  const auto count = [](const Parts&, const Batch& batch) {
    return torch::tensor({batch.count(), std::accumulate(batch.ids.begin(), batch.ids.end(), int64_t{0})});
  };
  const auto seeing = std::make_shared<Seeing>();
  TrainPlan draws = plan();
  draws.figures = {{"sums", 2, count, sums_as_words}};
  draws.callbacks = {seeing};
  fit(folder("run"), "", draws);
  const std::string expected =
      "sums " + sums_as_words(std::vector<double>{samples, samples * (samples - 1) / 2}).title;
  EXPECT_EQ(seeing->seen, std::vector<std::string>(3, expected));
}

TEST_P(TrainerTest, AFigureThatCannotBeIsRefusedOnAllRanks) {
  const auto refused = [&](int64_t numbers, const std::string& words) {
    TrainPlan draws = plan();
    draws.figures = {{"odd", numbers, [](const Parts&, const Batch&) { return torch::zeros({2}); },
                      [](auto) -> Drawing { throw ConfigError("no such picture"); }}};
    try {
      fit(folder("run"), "", draws);
      ADD_FAILURE() << words;
    } catch (const AgreedError& e) {
      EXPECT_NE(std::string(e.what()).find(words), std::string::npos) << e.what();
    }
  };
  refused(0, "counts no numbers");
  refused(3, "counted 2 numbers for a batch, but says 3");
  refused(2, "no such picture");
}

// With one copy of it on a node, with one of each rank, or a part. Checkpoints may be gone on with any way.
TEST_F(FitTest, WhereTheOptimizersStateIsChangesNoBit) {
  Apart apart(comm_);
  options_.gradient_clip_val = 0.5;
  int tried = 0;
  const auto expect_the_same = [&](const OptimizerPlan& optimizer) {
    SCOPED_TRACE(++tried);
    const auto fitted = [&](const std::string& name, Communicator& group, const char* strategy,
                            const std::string& from = "") {
      TrainPlan what = plan();
      what.optimizer = optimizer;
      what.train.transforms = what.validate.transforms = {divide("x", 1)};  // in the run's precision
      options_.strategy = strategy;
      group_ = &group;
      const std::string into = folder(text(name, tried));
      if (!from.empty() && comm_.rank() == 0)
        std::filesystem::copy(folder(text("parts", tried)) + "/" + from, into);
      fit(into, from, what);
      return last(into);
    };
    const std::string expected = fitted("once", comm_, "ddp"), from = "epoch=0-step=3.safetensors";
    EXPECT_TRUE(fitted("parts", apart, "zero1") == expected);
    EXPECT_TRUE(fitted("copies", apart, "ddp") == expected);
    EXPECT_TRUE(fitted("on once", comm_, "ddp", from) == expected);
    EXPECT_TRUE(fitted("on copies", apart, "ddp", from) == expected);
  };
  for (const char* numerics : {"ordinary", "canonical"})
    for (const char* precision : {"32-true", "64-true"}) {
      options_.numerics = numerics;
      options_.precision = precision;
      expect_the_same(AdamW{.lr = 0.05});
      expect_the_same(SGD{.lr = 0.1});
      expect_the_same(SGD{.lr = 0.1, .momentum = 0.9});
    }
}

INSTANTIATE_TEST_SUITE_P(Numerics, TrainerTest,
                         testing::Values(Way{"ordinary", "ddp"}, Way{"canonical", "ddp"},
                                         Way{"ordinary", "zero1"}, Way{"canonical", "zero1"}),
                         [](const auto& way) { return text(way.param.numerics, "_", way.param.strategy); });

}  // namespace
}  // namespace lab
