// Metrics that are ratios and means, against values computed by hand.

#include "lab/train/metric.h"

#include <gmock/gmock.h>

#include <cmath>

#include "lab/core/error.h"
#include "measured.h"

namespace lab {
namespace {

using test::choosing;
using test::doubles;
using test::integers;
using test::numbers_of;

void expect_near(const std::vector<double>& found, const std::vector<double>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i)
    if (std::isnan(expected[i]))
      EXPECT_TRUE(std::isnan(found[i])) << found[i] << " at " << i;
    else
      EXPECT_NEAR(found[i], expected[i], 1e-14) << "at " << i;
}

TEST(Metric, AccuracyTakesIndicesAndOneHot) {
  const at::Tensor logits = torch::eye(4);
  for (const auto& target :
       {torch::tensor({0, 1, 2, 0}, torch::kLong), torch::tensor({0, 1, 2, 0}, torch::kUInt8)})
    expect_near(numbers_of(accuracy(), logits, target), {0.75});
  expect_near(numbers_of(accuracy(), logits, torch::eye(4).flip(0)), {0});
}

TEST(Metric, PooledMeanIsWeightedBySamples) {
  const auto mean =
      pooled_mean("mean", [](const Parts& output, const Batch&) { return output.only().mean(); });
  const at::Tensor output = torch::arange(70, torch::kFloat64);  // chunks of 64 and 6
  EXPECT_THAT(test::tags(mean, output, output), testing::ElementsAre("mean/validate"));
  expect_near(numbers_of(mean, output, output), {34.5});
}

struct ClassCase {
  Metric (*metric)(Multiclass);
  std::vector<double> macro, micro, weighted, none;
};
const Multiclass four = {.classes = 4};

void check_averages(const std::vector<int64_t>& truth, const std::vector<int64_t>& predicted,
                    const ClassCase& expected) {
  const auto numbers = [&](Average average) {
    return numbers_of(expected.metric({.classes = 4, .average = average}), choosing(predicted, 4),
                      integers(truth));
  };
  expect_near(numbers(Average::macro), expected.macro);
  expect_near(numbers(Average::micro), expected.micro);
  expect_near(numbers(Average::weighted), expected.weighted);
  expect_near(numbers(Average::none), expected.none);
}

// Class 3 is neither there nor predicted.
TEST(ClassMetric, AveragesOverClasses) {
  const std::vector<int64_t> truth = {0, 0, 0, 1, 1, 2}, predicted = {0, 0, 1, 1, 2, 2};
  const double micro = 4. / 6;
  const std::vector<double> recalls = {2. / 3, 0.5, 1, 0};
  check_averages(truth, predicted, {precision, {2. / 3}, {micro}, {0.75}, {1, 0.5, 0.5, 0}});
  check_averages(truth, predicted, {recall, {13. / 18}, {micro}, {4. / 6}, recalls});
  check_averages(truth, predicted, {accuracy, {13. / 18}, {micro}, {4. / 6}, recalls});
  check_averages(truth, predicted,
                 {f1, {(0.8 + 0.5 + 2. / 3) / 3}, {micro}, {(2.4 + 1 + 2. / 3) / 6}, {0.8, 0.5, 2. / 3, 0}});
}

TEST(ClassMetric, AClassThatIsOnlyPredictedCountsInTheMean) {
  const std::vector<int64_t> truth = {0, 0}, predicted = {0, 1};
  check_averages(truth, predicted, {precision, {0.5}, {0.5}, {1}, {1, 0, 0, 0}});
  check_averages(truth, predicted, {recall, {0.25}, {0.5}, {0.5}, {0.5, 0, 0, 0}});
  check_averages(truth, predicted, {f1, {1. / 3}, {0.5}, {2. / 3}, {2. / 3, 0, 0, 0}});
}

TEST(ClassMetric, OneClassAloneAndNoSample) {
  check_averages({2, 2}, {2, 2}, {f1, {1}, {1}, {1}, {0, 0, 1, 0}});
  check_averages({}, {}, {recall, {NAN}, {NAN}, {NAN}, {NAN, NAN, NAN, NAN}});
}

TEST(ClassMetric, TopKIsRightWhenTheTruthIsAmongTheLargest) {
  const at::Tensor scores = doubles({0.5, 0.3, 0.2, 0.1, 0.6, 0.3, 0.2, 0.3, 0.5}).view({3, 3});
  const at::Tensor truth = integers({1, 2, 0});
  const auto numbers = [&](Metric (*metric)(Multiclass), Average average, int64_t k) {
    return numbers_of(metric({.classes = 3, .average = average, .top_k = k}), scores, truth);
  };
  expect_near(numbers(accuracy, Average::micro, 1), {0});
  expect_near(numbers(accuracy, Average::micro, 2), {2. / 3});
  expect_near(numbers(accuracy, Average::none, 2), {0, 1, 1});
  expect_near(numbers(accuracy, Average::micro, 3), {1});
  expect_near(numbers(precision, Average::macro, 2), {(0 + 1 + 0.5) / 3});
  expect_near(numbers(precision, Average::none, 2), {0, 1, 0.5});
}

TEST(ClassMetric, ConfusionCountsAreNamedByTruthAndPrediction) {
  const Metric metric = confusion_counts({.classes = 2, .class_names = {"cat", "dog"}});
  const at::Tensor output = choosing({0, 1, 1, 1}, 2), truth = integers({0, 0, 0, 1});
  EXPECT_THAT(test::tags(metric, output, truth),
              testing::ElementsAre("confusion (validate)/cat as cat", "confusion (validate)/cat as dog",
                                   "confusion (validate)/dog as cat", "confusion (validate)/dog as dog"));
  expect_near(numbers_of(metric, output, truth), {1, 2, 0, 1});
}

TEST(ClassMetric, WhatDoesNotFitIsRefused) {
  EXPECT_THROW(precision(Multiclass{}), ConfigError);
  EXPECT_THROW(accuracy(Multiclass{.classes = 3, .top_k = 4}), ConfigError);
  EXPECT_THROW(f1({.classes = 3, .class_names = {"a"}}), ConfigError);
  EXPECT_THROW(numbers_of(precision(four), choosing({0}, 3), integers({0})), ConfigError);
  EXPECT_THROW(numbers_of(precision(four), choosing({0}, 4), integers({7})), ConfigError);
}

struct BinaryCase {
  double threshold;
  std::vector<double> probabilities;
  std::vector<int64_t> truth;
  double accuracy, precision, recall, f1;
  std::vector<double> confusion;  // tn, fp, fn, tp
};

TEST(BinaryMetric, CountsWhatIsAboveTheThreshold) {
  const std::vector<double> mixed = {0.9, 0.8, 0.4, 0.3, 0.6};
  const std::vector<BinaryCase> cases = {
      {0.5, mixed, {1, 0, 1, 0, 1}, 0.6, 2. / 3, 2. / 3, 2. / 3, {1, 1, 1, 2}},
      {0.85, mixed, {1, 0, 1, 0, 1}, 0.6, 1, 1. / 3, 0.5, {2, 0, 2, 1}},
      {0.5, {0.1, 0.5}, {0, 0}, 1, 0, 0, 0, {2, 0, 0, 0}},  // as much as the threshold is not above it
      {0.5, {0.9, 0.1}, {1, 1}, 0.5, 1, 0.5, 2. / 3, {0, 0, 1, 1}},
      {0.5, {}, {}, NAN, NAN, NAN, NAN, {0, 0, 0, 0}},
  };
  for (const BinaryCase& c : cases) {
    const at::Tensor probabilities = doubles(c.probabilities), truth = integers(c.truth);
    const Binary given = {.threshold = c.threshold, .logits = false}, logits = {.threshold = c.threshold};
    expect_near(numbers_of(accuracy(given), probabilities, truth), {c.accuracy});
    expect_near(numbers_of(precision(given), probabilities, truth), {c.precision});
    expect_near(numbers_of(recall(given), probabilities, truth), {c.recall});
    expect_near(numbers_of(f1(given), probabilities, truth), {c.f1});
    expect_near(numbers_of(confusion_counts(given), probabilities, truth), c.confusion);
    expect_near(numbers_of(precision(logits), probabilities.logit().unsqueeze(1), truth.unsqueeze(1)),
                {c.precision});
  }
  EXPECT_THROW(numbers_of(accuracy(Binary{}), torch::zeros({4, 2}), torch::zeros({4})), ConfigError);
}

struct ErrorCase {
  at::Tensor output, target;
  double squared, absolute, r2;
};

TEST(ErrorMetric, AreThoseOfAllElements) {
  const auto table = [](const std::vector<double>& values) { return doubles(values).view({-1, 2}); };
  const std::vector<ErrorCase> cases = {
      {doubles({2.5, 0, 2, 8}), doubles({3, -0.5, 2, 7}), 0.375, 0.5, 1 - 1.5 / 29.1875},
      {table({0, 2, -1, 2, 8, -5}), table({0.5, 1, -1, 1, 7, -6}), 4.25 / 6, 4.5 / 6,
       (2 - 1.25 / (50.25 - 6.5 * 6.5 / 3) - 3 / (38 - 16. / 3)) / 2},
      {doubles({1, 2, 3}), doubles({2, 2, 2}), 2. / 3, 2. / 3, 0},  // a target without spread
      {doubles({2, 2}), doubles({2, 2}), 0, 0, 1},
      {doubles({1}), doubles({3}), 4, 2, NAN},
      {doubles({}), doubles({}), NAN, NAN, NAN},
  };
  for (const ErrorCase& c : cases) {
    const int64_t outputs = c.output.dim() == 2 ? c.output.size(1) : 1;
    expect_near(numbers_of(mean_squared_error(), c.output, c.target), {c.squared});
    expect_near(numbers_of(mean_absolute_error(), c.output, c.target), {c.absolute});
    expect_near(numbers_of(r2_score(outputs), c.output, c.target), {c.r2});
  }
  EXPECT_THROW(numbers_of(mean_squared_error(), torch::zeros({4, 1}), torch::zeros({4})), ConfigError);
  EXPECT_THROW(numbers_of(r2_score(1), torch::zeros({4, 2}), torch::zeros({4, 2})), ConfigError);
  EXPECT_THROW(r2_score(0), ConfigError);
}

// Leaves samples with a negative label out.
std::pair<Parts, Batch> known(const Parts& output, const Batch& batch) {
  const at::Tensor rows = batch["labels"].ge(0).nonzero().flatten();
  Batch left = test::labelled(batch["labels"].index_select(0, rows));
  return {output.only().index_select(0, rows), left};
}

TEST(Metric, OnWhatIsMadeOfTheOutputAndTheBatch) {
  const at::Tensor output = choosing({0, 1, 1, 0}, 4), truth = integers({0, -1, 2, -1});
  expect_near(numbers_of(on(accuracy(), known), output, truth), {0.5});
  expect_near(numbers_of(on(recall(four), known), output, truth), {1. / 3});
  for (const Metric& metric : {accuracy(), recall(four)})
    expect_near(numbers_of(on(metric, known), output, integers({-1, -1, -1, -1})), {NAN});
}

TEST(Metric, IsMeasuredInTheStagesThatItSays) {
  const auto both = named(accuracy(), "share"), kept = auroc(Binary{});
  const auto tags = [](const Metric& metric) {
    return std::pair(tags_of(metric, MetricStage::train), tags_of(metric, MetricStage::validate));
  };
  using List = std::vector<std::string>;
  EXPECT_EQ(tags(both), std::pair(List{"share/train"}, List{"share/validate"}));
  EXPECT_EQ(tags(only_in(both, MetricStage::train)), std::pair(List{"share/train"}, List{}));
  EXPECT_EQ(tags(only_in(both, MetricStage::validate)), std::pair(List{}, List{"share/validate"}));
  EXPECT_EQ(tags(kept), std::pair(List{}, List{"auroc/validate"}));
  EXPECT_THROW(only_in(kept, MetricStage::train), ConfigError);
  EXPECT_EQ(tags_of(both, MetricStage::test), List{"share/test"});
  EXPECT_EQ(tags_of(kept, MetricStage::test), List{"auroc/test"});
  EXPECT_EQ(tags_of(only_in(both, MetricStage::validate), MetricStage::test), List{});
  EXPECT_EQ(tags_of(only_in(kept, MetricStage::test), MetricStage::validate), List{});
  EXPECT_EQ(tags_of(only_in(kept, MetricStage::test), MetricStage::test), List{"auroc/test"});
}

TEST(Metric, IsAShareOfSamplesWhereItsValueIs) {
  const Multiclass each{.classes = 3}, together{.classes = 3, .average = Average::micro};
  for (const Metric& metric : {accuracy(), accuracy(together), accuracy(Binary{}), named(accuracy(), "x")})
    EXPECT_TRUE(metric.is_share) << metric.name;
  const auto same = [](const Parts& output, const Batch& batch) { return std::pair(output, batch); };
  for (const Metric& metric : {accuracy(each), precision(together), recall(Binary{}), f1(Binary{}),
                               auroc(each), mean_squared_error(), on(accuracy(), same)})
    EXPECT_FALSE(metric.is_share) << metric.name;
}

TEST(Metric, OtherThanItSaysIsRefused) {
  const auto refused = [](Metric metric, const std::string& words) {
    try {
      numbers_of(metric, torch::zeros({3}), torch::zeros({3}));
      ADD_FAILURE() << words;
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), testing::HasSubstr(words));
    }
  };
  Metric odd = weighted_mean("odd", [](const Parts&, const Batch&) {
    return WeightedSum{torch::zeros({}), torch::zeros({2})};
  });
  refused(odd, R"(metric "odd" counted 3 numbers for a batch, but says 2)");
  odd = accuracy();
  odd.keys = {"a", "b"};
  refused(on(odd, [](const Parts&, const Batch& batch) { return std::pair(Parts(torch::eye(3)), batch); }),
          R"(metric "accuracy" has 1 values for the tags accuracy (validate)/a, accuracy (validate)/b)");
  odd = auroc(Binary{});
  odd.numbers = 3;
  refused(odd, R"(metric "auroc" has 3 rows of 2 numbers for 3 samples, but says 3)");
  odd.numbers = most_kept_numbers;
  refused(odd, "for each of 3 samples on every rank");
}

}  // namespace
}  // namespace lab
