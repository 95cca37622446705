// Schedules against PyTorch's, whose rates are in the table.

#include <gtest/gtest.h>

#include "lab/core/error.h"
#include "lab/train/plateau.h"
#include "lab/train/schedule.h"
#include "schedules_table.h"

namespace lab {
namespace {

constexpr double rate = 0.1;  // the table's
constexpr int64_t total = 301;

std::map<std::string, Schedule> cases(Per per) {
  using Mode = Cyclic::Mode;
  return {
      {"step_decay", step_decay(30, 0.7, per)},
      {"multi_step", multi_step({5, 8, 8, 100}, 0.2, per)},
      {"constant_start", constant_start(1.0 / 3, 5, per)},
      {"linear_ramp", linear_ramp(0.2, 0.9, 150, per)},
      {"exponential_decay", exponential_decay(0.97, per)},
      {"polynomial_decay", polynomial_decay(200, 2.5, per)},
      {"cosine_annealing", cosine_annealing(100, 0.1, per)},
      {"cosine_to_zero", cosine_annealing(300, 0, per)},
      {"restarts", cosine_warm_restarts(50, 1, 0.02, per)},
      {"longer_restarts", cosine_warm_restarts(20, 2, 0, per)},
      {"one_cycle", one_cycle({}, per)},
      {"one_cycle_linear", one_cycle({.total = total,
                                      .pct_start = 0.25,
                                      .linear = true,
                                      .div_factor = 10,
                                      .final_div_factor = 100,
                                      .three_phase = true},
                                     per)},
      {"triangular", cyclic({.highest = 5, .up = 20, .down = 35}, per)},
      {"triangular2", cyclic({.highest = 5, .up = 25, .mode = Mode::triangular2}, per)},
      {"exp_range", cyclic({.highest = 5, .up = 25, .mode = Mode::exp_range, .gamma = 0.99}, per)},
      {"by_function", by_function(
                          "harmonic", [](int64_t t) { return 1 / (1 + static_cast<double>(t)); }, per)},
      {"sequential", sequential({linear_ramp(0.1, 1, 20, per), cosine_annealing(80, 0.1, per),
                                 exponential_decay(0.99, per)},
                                {20, 100}, per)},
      {"chained",
       chained({constant_start(0.25, 7, per), exponential_decay(0.98, per), step_decay(50, 0.5, per)})},
  };
}

TEST(Schedules, AreTorchsInStepsAndInEpochs) {
  const auto& times = torch_rates.at("t");
  for (const Per per : {Per::step, Per::epoch})
    for (const auto& [name, schedule] : cases(per)) {
      const auto& expected = torch_rates.at(name);
      ASSERT_EQ(expected.size(), times.size());
      for (size_t i = 0; i < times.size(); ++i) {
        const auto t = static_cast<int64_t>(times[i]);
        const SchedulePoint at = per == Per::step ? SchedulePoint{t / 10, t, 10, total}
                                                  : SchedulePoint{t, 10 * t + 3, 10, 10 * total};
        EXPECT_NEAR(rate * schedule.factor(at), expected[i], 1e-12) << name << " at " << t;
      }
    }
}

TEST(Schedules, KnowWhetherTheyNeedTheEndOfTheRun) {
  EXPECT_TRUE(one_cycle().needs_end);
  EXPECT_FALSE(one_cycle({.total = 10}).needs_end);
  EXPECT_TRUE(sequential({linear_ramp(), one_cycle()}, {5}).needs_end);
  EXPECT_FALSE(sequential({one_cycle(), linear_ramp()}, {5}).needs_end);
  EXPECT_TRUE(chained({linear_ramp(), one_cycle()}).needs_end);
  EXPECT_EQ(chained({linear_ramp(), one_cycle()}).name, "chained(linear_ramp, one_cycle)");
}

// A part of a sequence ends where the next one begins, and the last one with the run.
TEST(Schedules, PartsOfASequenceHaveTheirOwnEnds) {
  const Schedule parts = sequential({one_cycle(), one_cycle()}, {3}, Per::epoch);
  for (int64_t step = 0; step < 100; ++step) {
    const SchedulePoint at{step / 10, step, 10, 100};
    const int64_t first = step < 30 ? 0 : 30, steps = step < 30 ? 30 : 70;
    const SchedulePoint alone{(step - first) / 10, step - first, 10, steps};
    EXPECT_EQ(parts.factor(at), one_cycle().factor(alone)) << step;
  }
}

TEST(Schedules, RefuseNumbersThatMakeNone) {
  EXPECT_THROW(step_decay(0), ConfigError);
  EXPECT_THROW(linear_ramp(0.1, 1, 0), ConfigError);
  EXPECT_THROW(cosine_annealing(0), ConfigError);
  EXPECT_THROW(cosine_warm_restarts(5, 0), ConfigError);
  EXPECT_THROW(one_cycle({.pct_start = 1.5}), ConfigError);
  EXPECT_THROW(cyclic({.up = 0}), ConfigError);
  EXPECT_THROW(sequential({linear_ramp()}, {5}), ConfigError);
  EXPECT_THROW(sequential({linear_ramp(), linear_ramp(), linear_ramp()}, {5, 3}), ConfigError);
  EXPECT_THROW(ReduceOnPlateau({.factor = 1}), ConfigError);
}

// Also when the run is stopped after any epoch and goes on.
TEST(Plateau, ReducesTheRateAsTorchDoes) {
  const std::map<std::string, Plateau> runs = {
      {"plateau", {.factor = 0.5, .patience = 2}},
      {"plateau_cooldown",
       {.patience = 1, .threshold = 0.05, .relative = false, .cooldown = 3, .min_factor = 0.01}},
      {"plateau_max", {.mode = Mode::max, .factor = 0.3, .patience = 3, .threshold = 0.15, .eps = 0.02}},
  };
  const auto& values = torch_rates.at("plateau_values");
  for (const auto& [name, options] : runs)
    for (const bool resumed : {false, true}) {
      auto plateau = std::make_shared<ReduceOnPlateau>(options);
      for (size_t i = 0; i < values.size(); ++i) {
        const double value = options.mode == Mode::max ? 3 / values[i] : values[i];
        EXPECT_FALSE(plateau->epoch_finished({0, 1, {{"loss/validate", value}}}).stop);
        EXPECT_NEAR(rate * plateau->factor(), torch_rates.at(name)[i], 1e-12) << name << " after " << i;
        if (!resumed) continue;
        const std::string state = plateau->state();
        plateau = std::make_shared<ReduceOnPlateau>(options);
        plateau->restore(state);
        EXPECT_EQ(plateau->state(), state);
      }
    }
}

TEST(Plateau, WaitsWhereItsValueIsNotMeasured) {
  ReduceOnPlateau plateau({.patience = 0});
  for (int i = 0; i < 5; ++i) plateau.epoch_finished({0, 1, {{"loss/train_epoch", 1}}});
  EXPECT_EQ(plateau.factor(), 1);
  EXPECT_THROW(plateau.fit_started({.tags = {"loss/train_epoch"}}), ConfigError);
}

}  // namespace
}  // namespace lab
