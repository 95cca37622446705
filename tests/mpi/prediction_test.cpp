// Predictions of all ranks, on rank 0; and an evaluation's values, which are those of one rank.

#include "lab/train/prediction.h"

#include <gmock/gmock.h>
#include <torch/nn.h>

#include <algorithm>
#include <cstring>

#include "group.h"
#include "lab/comm/agreement.h"
#include "lab/train/evaluation.h"
#include "lab/train/step_plan.h"

namespace lab {
namespace {

// Whose metadata becomes other than it began, in the last chunk.
struct Odd : OwnSamples {
  explicit Odd(int64_t samples) : samples_(samples) {}
  int64_t size() const override { return samples_; }
  void get(int64_t i, Sample& sample) const override {
    sample.set("x", {2}, std::vector{static_cast<float>(i), -static_cast<float>(i)});
    sample.set("labels", i % 2);
    sample.metadata.set("mixed", i < 128 ? MetadataValue(i) : MetadataValue(static_cast<double>(i) + 0.5));
    sample.metadata.set("late", i < 128 ? MetadataValue(i) : MetadataValue("text " + std::to_string(i)));
    if (i != 130) sample.metadata.set("gaps", i);
  }
  std::string identity() const override { return "odd"; }
  int64_t samples_;
};

std::shared_ptr<const Source> odd(int64_t samples) {
  return open_datasets({own("odd", [samples] { return std::make_shared<Odd>(samples); })}, {}).front();
}

torch::nn::Sequential net() {
  torch::manual_seed(4);
  return torch::nn::Sequential(torch::nn::Linear(2, 5));
}

InferPlan plan_of(std::function<Parts(const Parts&)> rows) {
  InferPlan plan;
  plan.model = {net(), "x"};
  plan.rows = std::move(rows);
  plan.metric = accuracy();
  plan.metric_needs = "labels";
  return plan;
}

Prediction predicted(Communicator& comm, const InferPlan& plan, const std::vector<std::string>& metadata,
                     int64_t samples) {
  return predict(comm, plan, metadata, odd(std::max<int64_t>(samples, 1)), samples, {}, Upload({}), true);
}

Parts scores(const Parts& output) {
  Parts parts;
  parts.add("scores", output.only());
  parts.add("best", output.only().argmax(1));
  return parts;
}

TEST(Prediction, IsTheSameOnAnyRanks) {
  const auto alone = self_communicator();
  const std::vector<std::string> metadata = {"mixed", "late"};
  for (const int64_t samples : {0, 1, 64, 65, 150, 700}) {
    const InferPlan plan = plan_of(scores);
    const Prediction expected = predicted(*alone, plan, metadata, samples);
    const Prediction found = predicted(test_group(), plan, metadata, samples);
    EXPECT_EQ(found.metric, expected.metric) << samples;
    if (test_group().rank() != 0) {
      EXPECT_TRUE(found.columns.empty());
      continue;
    }
    ASSERT_EQ(found.columns.size(), expected.columns.size());
    for (size_t i = 0; i < found.columns.size(); ++i) {
      const TableColumn &a = found.columns[i], &b = expected.columns[i];
      EXPECT_EQ(std::tie(a.name, a.type, a.shape, a.is_text), std::tie(b.name, b.type, b.shape, b.is_text));
      EXPECT_TRUE(a.bytes == b.bytes && a.texts == b.texts) << a.name << " of " << samples;
    }
  }
}

TEST(Prediction, HasColumnsOfWhatThereIs) {
  const Prediction found = predicted(test_group(), plan_of(scores), {"mixed", "late"}, 150);
  if (test_group().rank() != 0) return;
  ASSERT_EQ(found.columns.size(), 4u);
  EXPECT_EQ(found.columns[0].shape, (std::vector<int64_t>{5}));
  EXPECT_EQ(found.columns[0].bytes.size(), 150 * 5 * sizeof(float));
  EXPECT_EQ(found.columns[1].type, DType::i64);
  EXPECT_EQ(found.columns[2].type, DType::f64);
  double number = 0;
  std::memcpy(&number, found.columns[2].bytes.data() + 149 * sizeof number, sizeof number);
  EXPECT_EQ(number, 149.5);
  ASSERT_TRUE(found.columns[3].is_text);
  EXPECT_EQ(found.columns[3].texts[3], "3");
  EXPECT_EQ(found.columns[3].texts[149], "text 149");
}

// What goes wrong in one chunk alone, all ranks leave with.
TEST(Prediction, EndsOnAllRanks) {
  const auto refusal = [](const InferPlan& plan, const std::vector<std::string>& metadata) -> std::string {
    try {
      predicted(test_group(), plan, metadata, 150);
    } catch (const AgreedError& e) {
      return e.what();
    }
    return "was taken";
  };
  EXPECT_THAT(refusal(plan_of(scores), {"gaps"}), testing::HasSubstr("no metadata 'gaps'"));
  const auto uneven = [](const Parts& output) {
    const at::Tensor& all = output.only();
    return all.size(0) < chunk_positions ? all.to(torch::kFloat64) : all;
  };
  EXPECT_THAT(refusal(plan_of(uneven), {}), testing::HasSubstr("differ between"));
  EXPECT_THAT(refusal(plan_of([](const Parts& output) { return output.only().sum(); }), {}),
              testing::HasSubstr("first dimension"));
  EXPECT_THAT(refusal(plan_of([](const Parts& output) {
                        return at::view_as_complex(output.only().narrow(1, 0, 2).contiguous());
                      }),
                      {}),
              testing::HasSubstr("make real numbers"));
}

TEST(Evaluation, HasTheSameValuesOnAnyRanks) {
  TrainPlan plan;
  plan.model = {net(), "x"};
  plan.loss = cross_entropy();
  plan.batch_size = 16;
  plan.metrics = {accuracy(), named(accuracy(), "first")};
  plan.metrics[1].only = MetricStage::test;
  TrainerOptions options;
  options.limit_test_batches = int64_t{9};
  const auto source = odd(150);
  const auto alone = self_communicator();
  std::vector<int64_t> chunks;
  const auto values = [&](Communicator& comm, MetricStage stage) {
    const int64_t samples = samples_of(options, stage, *source, plan.batch_size);
    EXPECT_EQ(samples, stage == MetricStage::test ? 144 : 150);
    return evaluate(comm, plan, options, Upload({}),
                    {.stage = stage,
                     .source = source,
                     .samples = samples,
                     .chunk_finished = [&](int64_t chunk) { chunks.push_back(chunk); }})
        .values;
  };
  EXPECT_EQ(values(test_group(), MetricStage::test), values(*alone, MetricStage::test));
  EXPECT_EQ(values(test_group(), MetricStage::validate), values(*alone, MetricStage::validate));
  chunks.clear();
  const Values tested = values(*alone, MetricStage::test);
  EXPECT_EQ(chunks, (std::vector<int64_t>{0, 1, 2}));
  ASSERT_EQ(tested.size(), 3u);
  EXPECT_EQ(tested[0].first, "loss/test");
  EXPECT_EQ(tested[1].first, "accuracy/test");
  EXPECT_EQ(tested[2], Values::value_type("first/test", tested[1].second));
  options.limit_test_batches = 0.01;
  EXPECT_THAT(mistakes_in_evaluation(plan, options, MetricStage::test, source.get()),
              testing::ElementsAre(testing::HasSubstr("limit_test_batches = 0.01")));
  options.limit_test_batches = int64_t{0};
  EXPECT_THAT(mistakes_in_evaluation(plan, options, MetricStage::test, source.get()),
              testing::ElementsAre(testing::HasSubstr("leaves nothing to test on")));
  EXPECT_TRUE(mistakes_in_evaluation(plan, options, MetricStage::validate, source.get()).empty());
}

// A signal to one rank: all stop, and nothing was measured.
TEST(Evaluation, StopsOnAllRanks) {
  TrainPlan plan;
  plan.model = {net(), "x"};
  plan.loss = cross_entropy();
  plan.batch_size = 16;
  const bool last = test_group().rank() == test_group().size() - 1;
  const Measured measured =
      evaluate(test_group(), plan, {}, Upload({}),
               {.source = odd(150), .samples = 150, .stop_signal = [last] { return last ? 2 : 0; }});
  EXPECT_EQ(measured.signal, 2);
  EXPECT_TRUE(measured.values.empty());
}

}  // namespace
}  // namespace lab
