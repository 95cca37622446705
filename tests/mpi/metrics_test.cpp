// Every metric in whole runs: on any ranks the bits of one, also of runs that go on within an epoch.

#include <gtest/gtest.h>
#include <torch/nn.h>

#include <bit>
#include <filesystem>
#include <optional>

#include "group.h"
#include "lab/comm/agreement.h"
#include "lab/train/trainer.h"
#include "numbers.h"

namespace lab {
namespace {

// 15 chunks of 64 and one of 43; 4 steps of 256, the last of 235, in which leaves differ.
constexpr int64_t samples = 1003, epoch_steps = 4;

std::pair<Parts, Batch> with_labels(const at::Tensor& output, const Batch& batch, const at::Tensor& labels) {
  Batch other;
  other.ids = batch.ids;
  other.parts.add("labels", labels);
  return {output, other};
}

// Whether it is class 1, by one logit.
std::pair<Parts, Batch> as_yes_or_no(const Parts& output, const Batch& batch) {
  return with_labels(output.only().select(1, 1), batch, batch["labels"].eq(1));
}

std::pair<Parts, Batch> as_numbers(const Parts& output, const Batch& batch) {
  return with_labels(output.only().narrow(1, 0, 2), batch, batch["x"].narrow(1, 0, 2));
}

// Only samples of which the id is a multiple of three.
std::pair<Parts, Batch> a_third(const Parts& output, const Batch& batch) {
  Batch left;
  std::vector<int64_t> rows;
  for (int64_t i = 0; i < batch.count(); ++i)
    if (batch.ids[static_cast<size_t>(i)] % 3 == 0) {
      rows.push_back(i);
      left.ids.push_back(batch.ids[static_cast<size_t>(i)]);
    }
  const at::Tensor index = torch::tensor(rows, torch::kLong);
  left.parts.add("labels", batch["labels"].index_select(0, index));
  return {output.only().index_select(0, index), left};
}

std::vector<Metric> all_metrics() {
  const Multiclass macro = {.classes = 3}, each = {.classes = 3, .average = Average::none};
  const auto mean = [](const Parts& output, const Batch&) { return output.only().mean(); };
  std::vector<Metric> metrics = {
      accuracy(), named(accuracy(macro), "accuracy_macro"), precision(macro), named(recall(each), "recalls"),
      f1(macro), confusion_counts(macro), pooled_mean("mean", mean),
      // Of single samples:
      auroc(macro), named(auroc(each), "aurocs"), average_precision(macro),
      named(on(auroc(macro), a_third), "auroc_of_a_third"),
      // While training, too:
      per_step(named(accuracy(), "running")), per_step(named(recall(each), "recalled")),
      // In one stage:
      only_in(named(accuracy(), "training"), MetricStage::train),
      only_in(named(precision(macro), "validation"), MetricStage::validate)};
  for (const Metric& metric :
       {accuracy(Binary{}), f1(Binary{}), auroc(Binary{}), average_precision(Binary{})})
    metrics.push_back(named(on(metric, as_yes_or_no), metric.name + "_binary"));
  for (const Metric& metric : {mean_squared_error(), mean_absolute_error(), r2_score(2)})
    metrics.push_back(on(metric, as_numbers));
  return metrics;
}

// The values of each step, of each epoch, and of the validation before it.
class Noting final : public Callback {
 public:
  std::string name() const override { return "noting"; }
  void fit_started(const FitReport& report) override { tags = report.tags; }
  void first_validation_finished(const EpochReport& report) override { values.push_back(report.values); }
  Signal epoch_finished(const EpochReport& report) override {
    values.push_back(report.values);
    return {};
  }
  Signal step_finished(const StepReport& report) override {
    steps.push_back(report.values);
    return {};
  }
  std::vector<std::string> tags;
  std::vector<Values> values, steps;
};

class MetricsTest : public testing::TestWithParam<const char*> {
 protected:
  TrainPlan plan() const {
    torch::manual_seed(3);
    torch::nn::Sequential net(torch::nn::Linear(number_features, 8), torch::nn::Tanh(),
                              torch::nn::Linear(8, 3));
    return {.model = {net, "x"},
            .loss = cross_entropy(),
            .optimizer = AdamW{.lr = 0.05},
            .train = {.shuffle = true},
            .batch_size = 256,
            .metrics = all_metrics(),
            .callbacks = {noting_}};
  }

  // Into `folder`, from the checkpoint in it that is named. Every second step is recorded.
  void fit(Communicator& comm, const std::string& folder, const std::string& from = "") {
    TrainerOptions options;
    options.max_epochs = 2;
    options.numerics = GetParam();
    options.checkpoint_every_n_steps = 1;
    options.checkpoint_keep = 1000;
    options.log_every_n_steps = 2;
    std::optional<SavedRun> saved;
    std::unique_ptr<CheckpointSink> sink = no_checkpoints();
    if (comm.rank() == 0) {
      if (!from.empty()) saved = read_checkpoint(folder + "/" + from);
      sink = checkpoint_folder({folder, "", Mode::min, options.checkpoint_keep}, saved ? &*saved : nullptr,
                               Log::silent());
    }
    noting_ = std::make_shared<Noting>();
    Trainer(plan(), options, {comm, Log::silent(), source_, source_, *sink, {}, saved ? &*saved : nullptr})
        .fit();
  }

  std::string folder(const std::string& name) const {
    std::filesystem::create_directories(temporary_ / name);
    return temporary_ / name;
  }

  // On every rank.
  void expect_the_same(const std::vector<Values>& found, const std::vector<Values>& expected) const {
    ASSERT_EQ(found.size(), expected.size());
    for (size_t epoch = 0; epoch < found.size(); ++epoch) {
      ASSERT_EQ(found[epoch].size(), expected[epoch].size());
      for (size_t i = 0; i < found[epoch].size(); ++i) {
        const auto& [tag, value] = found[epoch][i];
        EXPECT_EQ(tag, expected[epoch][i].first);
        EXPECT_EQ(std::bit_cast<uint64_t>(value), std::bit_cast<uint64_t>(expected[epoch][i].second))
            << tag << ": " << value << " and " << expected[epoch][i].second;
      }
    }
  }

  const test::TemporaryFolder temporary_;
  const std::shared_ptr<const Source> source_ = numbers(temporary_, samples);
  std::shared_ptr<Noting> noting_;
};

TEST_P(MetricsTest, AllThatIsAnnouncedIsMeasured) {
  fit(test_group(), folder("run"));
  ASSERT_EQ(noting_->values.size(), 3u);
  std::vector<std::string> tags;
  for (const auto& [tag, value] : noting_->values.back()) {
    tags.push_back(tag);
    EXPECT_TRUE(std::isfinite(value)) << tag;
  }
  EXPECT_EQ(tags, noting_->tags);
  EXPECT_EQ(std::ranges::count(tags, "training/train") + std::ranges::count(tags, "validation/validate"), 2);
  EXPECT_EQ(std::ranges::count(tags, "training/validate") + std::ranges::count(tags, "auroc/train"), 0);
  EXPECT_EQ(std::ranges::count(tags, "recalls (train)/2"), 1);
  double counted = 0;
  for (const auto& [tag, value] : noting_->values.back())
    if (tag.starts_with("confusion (")) counted += value;
  EXPECT_EQ(counted, 2 * samples);  // of both stages
}

TEST_P(MetricsTest, ThoseOfStepsAreOfTheEpochSoFar) {
  fit(test_group(), folder("run"));
  ASSERT_EQ(std::ssize(noting_->steps), 2 * epoch_steps);
  for (int64_t step = 0; step < 2 * epoch_steps; ++step) {
    const Values& values = noting_->steps[static_cast<size_t>(step)];
    ASSERT_EQ(values.size(), (step + 1) % 2 == 0 ? 4U : 0U) << step;
    if ((step + 1) % epoch_steps != 0 || (step + 1) % 2 != 0) continue;
    const Values& epoch = noting_->values[static_cast<size_t>(step / epoch_steps) + 1];
    EXPECT_EQ(value_of(values, "running/train_step"), value_of(epoch, "running/train"));
    EXPECT_EQ(value_of(values, "recalled (train_step)/1"), value_of(epoch, "recalled (train)/1"));
  }
  const auto begin = value_of(noting_->steps[1], "running/train_step");
  EXPECT_NE(begin, value_of(noting_->values[1], "running/train"));
  EXPECT_THROW(per_step(auroc(Multiclass{.classes = 3})), ConfigError);
}

TEST_P(MetricsTest, TheFirstValidationHasTheBitsOfOneRank) {
  fit(test_group(), folder("run"));
  const Values found = noting_->values.front();
  fit(*self_communicator(), folder(text("alone", test_group().rank())));
  expect_the_same({found}, {noting_->values.front()});
}

TEST_P(MetricsTest, ARunThatGoesOnWithinAnEpochHasTheSameValues) {
  const std::string whole = folder("whole");
  fit(test_group(), whole);
  const Values expected = noting_->values.back();
  for (int64_t step = epoch_steps + 1; step < 2 * epoch_steps; ++step) {
    const std::string checkpoint = text("epoch=1-step=", step, ".safetensors"), part = folder(checkpoint);
    if (test_group().rank() == 0) std::filesystem::copy(whole + "/" + checkpoint, part);
    fit(test_group(), part, checkpoint);
    expect_the_same({noting_->values.back()}, {expected});
    if (test_group().rank() == 0) {
      EXPECT_TRUE(test::read_bytes(part + "/last.safetensors") ==
                  test::read_bytes(whole + "/last.safetensors"));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Numerics, MetricsTest, testing::Values("ordinary", "canonical"),
                         [](const auto& numerics) { return std::string(numerics.param); });

// Training too, and from what another number of ranks has left.
class CanonicalMetricsTest : public MetricsTest {};

TEST_P(CanonicalMetricsTest, HaveTheBitsOfOneRank) {
  const std::string shared = folder("run"), own = folder(text("alone", test_group().rank()));
  fit(test_group(), shared);
  const auto found = noting_->values;
  const auto alone = self_communicator();
  fit(*alone, own);
  expect_the_same(found, noting_->values);
  if (test_group().rank() > 0) return;
  const std::string checkpoint = "epoch=1-step=6.safetensors", part = folder("part");
  std::filesystem::copy(shared + "/" + checkpoint, part);
  fit(*alone, part, checkpoint);
  expect_the_same({noting_->values.back()}, {found.back()});
}

INSTANTIATE_TEST_SUITE_P(Numerics, CanonicalMetricsTest, testing::Values("canonical"));

TEST(MetricsOfAPlan, WithOneNameAreRefusedOnAllRanks) {
  const test::TemporaryFolder temporary;
  const auto source = numbers(temporary, 60);
  const auto sink = no_checkpoints();
  TrainPlan plan{.model = {torch::nn::Linear(number_features, 3), "x"},
                 .loss = cross_entropy(),
                 .batch_size = 16,
                 .metrics = {accuracy(), accuracy(Multiclass{.classes = 3})}};
  try {
    Trainer(std::move(plan), {}, {test_group(), Log::silent(), source, source, *sink, {}});
    FAIL();
  } catch (const AgreedError& e) {
    EXPECT_NE(std::string(e.what()).find("lab::named"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace lab
