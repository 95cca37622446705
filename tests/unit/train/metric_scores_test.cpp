// Areas under curves, and the curves, against values computed by hand.

#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "lab/core/error.h"
#include "lab/train/figure.h"
#include "measured.h"

namespace lab {
namespace {

using test::doubles;
using test::integers;
using test::numbers_of;

struct AreaCase {
  std::vector<double> probabilities;
  std::vector<int64_t> truth;
  double auroc, average_precision;
};

void expect_value(double found, double expected) {
  if (std::isnan(expected))
    EXPECT_TRUE(std::isnan(found)) << found;
  else
    EXPECT_NEAR(found, expected, 1e-14);
}

TEST(ScoreMetric, AreasOfYesAndNo) {
  const std::vector<AreaCase> cases = {
      {{0.1, 0.4, 0.35, 0.8}, {0, 0, 1, 1}, 0.75, 0.5 + 0.5 * 2 / 3},
      {{0.5, 0.5, 0.5, 0.5}, {1, 0, 1, 0}, 0.5, 0.5},             // all tied
      {{0.7, 0.7, 0.2, 0.9}, {1, 0, 0, 1}, 0.875, 0.5 + 1. / 3},  // a tie of both kinds
      {{0.1, 0.2, 0.8, 0.9}, {0, 0, 1, 1}, 1, 1},
      {{0.8, 0.9, 0.1, 0.2}, {0, 0, 1, 1}, 0, 0.5 * (1. / 3) + 0.5 * 0.5},
      {{0.2, 0.9}, {1, 1}, 0, 1},  // as torchmetrics, where one of both is absent
      {{0.2, 0.9}, {0, 0}, 0, 0},
      {{0.2, NAN}, {0, 1}, NAN, NAN},
      {{}, {}, NAN, NAN},
  };
  for (const AreaCase& c : cases) {
    const at::Tensor probabilities = doubles(c.probabilities), truth = integers(c.truth);
    const Binary given = {.logits = false};
    expect_value(numbers_of(auroc(given), probabilities, truth)[0], c.auroc);
    expect_value(numbers_of(average_precision(given), probabilities, truth)[0], c.average_precision);
    expect_value(numbers_of(auroc(Binary{}), probabilities.logit().unsqueeze(1), truth.unsqueeze(1))[0],
                 c.auroc);
  }
}

const at::Tensor rows = doubles({0.7, 0.2, 0.1, 0.3, 0.6, 0.1, 0.4, 0.5, 0.1, 0.2, 0.7, 0.1}).view({4, 3});

std::vector<double> of_classes(Metric (*metric)(Multiclass), Average average,
                               const std::vector<int64_t>& truth) {
  return numbers_of(metric({.classes = 3, .average = average, .logits = false}),
                    rows.narrow(0, 0, std::ssize(truth)), integers(truth));
}

TEST(ScoreMetric, AClassThatIsAbsentCountsAsInTorchmetrics) {
  const std::vector<int64_t> no_third = {0, 1, 0, 1}, only_first = {0, 0}, only_second = {1, 1};
  const auto expect = [](const std::vector<double>& found, const std::vector<double>& expected) {
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i) expect_value(found[i], expected[i]);
  };
  expect(of_classes(auroc, Average::macro, no_third), {2. / 3});
  expect(of_classes(auroc, Average::weighted, no_third), {1});
  expect(of_classes(auroc, Average::none, no_third), {1, 1, 0});
  expect(of_classes(auroc, Average::macro, only_first), {0});
  expect(of_classes(average_precision, Average::macro, no_third), {1});
  expect(of_classes(average_precision, Average::none, no_third), {1, 1, NAN});
  expect(of_classes(average_precision, Average::macro, only_first), {1. / 3});
  expect(of_classes(average_precision, Average::macro, only_second), {1});
  expect(of_classes(average_precision, Average::none, {}), {NAN, NAN, NAN});
  EXPECT_THROW(auroc({.classes = 3, .average = Average::micro}), ConfigError);
}

TEST(ScoreMetric, LogitsBecomeProbabilitiesBeforeSamplesAreCompared) {
  const at::Tensor logits = doubles({10, 0, 1, 10, 9, 0, 0, 0, 5}).view({3, 3});
  const Multiclass classes = {.classes = 3, .average = Average::none};
  const at::Tensor truth = integers({0, 2, 1});
  Multiclass given = classes;
  given.logits = false;
  EXPECT_EQ(numbers_of(auroc(classes), logits, truth), numbers_of(auroc(given), logits.softmax(1), truth));
  EXPECT_NE(numbers_of(auroc(classes), logits, truth), numbers_of(auroc(given), logits, truth));
}

// More than one chunk, of which a part has no rows: what is left keeps its order.
TEST(ScoreMetric, SamplesThatAreLeftOutLeaveNoGap) {
  const Metric all = {
      .name = "all",
      .numbers = 1,
      .count = [](const Parts& output, const Batch&) { return std::vector{output.only()}; },
      .values = [](std::span<const double> kept) { return std::vector(kept.begin(), kept.end()); },
      .collect = Collect::samples,
      .keys = std::vector<std::string>(4, "key")};
  const Preprocess large = [](const Parts& output, const Batch& batch) {
    Batch left = batch;
    const at::Tensor some =
        output.only().masked_select(output.only().gt(125).logical_or(output.only().eq(7)));
    left.ids.resize(static_cast<size_t>(some.size(0)));
    return std::pair(Parts(some), left);
  };
  const at::Tensor numbers = torch::arange(129, torch::kFloat64);  // chunks of 64, 64, 1
  EXPECT_EQ(numbers_of(on(all, large), numbers, numbers), (std::vector<double>{7, 126, 127, 128}));
}

nlohmann::json line_of(const Figure& figure, const at::Tensor& output, const at::Tensor& truth,
                       size_t line = 0) {
  const at::Tensor counts = figure.count(output, test::labelled(truth)).to(torch::kFloat64);
  EXPECT_EQ(counts.numel(), figure.numbers);
  const auto* first = counts.const_data_ptr<double>();
  const Drawing drawing = figure.draw({first, static_cast<size_t>(counts.numel())});
  return nlohmann::json::parse(plotly(drawing)).at("data").at(line);
}

TEST(Curve, RocGoesFromTheHighestScoreDown) {
  const at::Tensor output = doubles({0.9, 0.8, 0.4, 0.3, 1}), truth = integers({1, 0, 1, 0, 1});
  const auto line = line_of(roc_curve(Binary{.logits = false}), output, truth);
  EXPECT_EQ(line.at("x"), (std::vector<double>{0, 0, 0, 0.5, 0.5, 1}));
  EXPECT_EQ(line.at("y"), (std::vector<double>{0, 1. / 3, 2. / 3, 2. / 3, 1, 1}));
  EXPECT_EQ(line.at("name"), "area 0.8333");
}

TEST(Curve, PrecisionAgainstRecallOfEachClass) {
  const auto figure = precision_recall_curve({.classes = 3, .logits = false, .class_names = {"a", "b", "c"}});
  const auto line = line_of(figure, rows, integers({0, 1, 0, 0}), 1);
  EXPECT_EQ(line.at("x"), (std::vector<double>{0, 0, 1, 1, 1}));  // 0.7, 0.6, 0.5, 0.2
  EXPECT_EQ(line.at("y"), (std::vector<double>{1, 0, 0.5, 1. / 3, 0.25}));
  EXPECT_EQ(line.at("name"), "b (average precision 0.5)");
  const auto absent = line_of(figure, rows, integers({0, 1, 0, 0}), 2);
  EXPECT_EQ(absent.at("y"), (std::vector<double>{1, 0}));
}

TEST(Curve, ScoresOutOfRangeAreInTheLastBin) {
  const at::Tensor counts = roc_curve(Binary{.logits = false})
                                .count(doubles({1, 0, 5, -1}), test::labelled(integers({1, 1, 0, 0})));
  EXPECT_TRUE(counts.nonzero().flatten().equal(integers({0, 999, 1000, 1999})));
}

}  // namespace
}  // namespace lab
