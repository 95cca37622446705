#pragma once
// Learning-rate schedules: the rate is a pure function of where the run is, so there is no state to save.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace lab {

struct SchedulePoint {
  int64_t epoch = 0;  // 0-based
  int64_t step = 0;   // optimizer steps done before this one, over the whole run
  int64_t steps_per_epoch = 0;
  int64_t total_steps = -1;  // of the whole run; -1 when it has no planned end
};

// `factor` multiplies the optimizer's rate.
struct Schedule {
  std::string name = "constant";
  std::function<double(const SchedulePoint&)> factor = [](const SchedulePoint&) { return 1.0; };
  bool needs_end = false;  // refuses runs without a planned end
};

// What a schedule counts: its t below is the number of steps or of epochs before this one.
enum class Per { epoch, step };

// The schedules of torch.optim.lr_scheduler, each as the closed form of what torch computes step by step.
// Rates that torch wants beside the optimizer's (eta_min, max_lr) are shares of the optimizer's rate here.
// All throw ConfigError for numbers that make no schedule.

// StepLR: times gamma after every so many.
Schedule step_decay(int64_t every, double gamma = 0.1, Per per = Per::epoch);
// MultiStepLR: gamma to the power of the milestones passed.
Schedule multi_step(std::vector<int64_t> milestones, double gamma, Per per = Per::epoch);
// ConstantLR: `factor` for the first so many, then 1.
Schedule constant_start(double factor = 1.0 / 3, int64_t count = 5, Per per = Per::epoch);
// LinearLR: from `start` to `end` over the first so many, then `end`.
Schedule linear_ramp(double start = 1.0 / 3, double end = 1, int64_t count = 5, Per per = Per::epoch);
// ExponentialLR: gamma to the power of t.
Schedule exponential_decay(double gamma, Per per = Per::epoch);
// PolynomialLR: (1 - t / count) to the power, then 0.
Schedule polynomial_decay(int64_t count = 5, double power = 1, Per per = Per::epoch);
// CosineAnnealingLR: half a cosine from 1 down to `least` at t = count; it goes on, and so rises again
// (Loshchilov and Hutter, "SGDR", 2017, without restarts).
Schedule cosine_annealing(int64_t count, double least = 0, Per per = Per::epoch);
// CosineAnnealingWarmRestarts: the same again from 1 after `first`, each time `longer` times as long (the
// same paper).
Schedule cosine_warm_restarts(int64_t first, int64_t longer = 1, double least = 0, Per per = Per::epoch);

// OneCycleLR's rates; momentum stays as it is. The optimizer's rate is the highest one (Smith and Topin,
// "Super-convergence", 2018).
struct OneCycle {
  int64_t total = 0;              // of the cycle; 0: of the whole run, which then must have an end
  double pct_start = 0.3;         // the share in which the rate rises
  bool linear = false;            // in place of cosines
  double div_factor = 25;         // the first rate is the highest over this
  double final_div_factor = 1e4;  // the last rate is the first one over this
  bool three_phase = false;       // falls to the first rate as fast as it rose, and then to the last
};
Schedule one_cycle(const OneCycle& options = {}, Per per = Per::step);

// CyclicLR's rates; momentum stays as it is. The optimizer's rate is the lowest one (Smith, "Cyclical
// learning rates", 2017).
struct Cyclic {
  double highest = 10;          // times the optimizer's rate
  int64_t up = 2000, down = 0;  // how many it rises and falls for; 0: as long as it rises
  enum class Mode { triangular, triangular2, exp_range } mode = Mode::triangular;
  double gamma = 1;  // exp_range: the height shrinks by this each time
};
Schedule cyclic(const Cyclic& options, Per per = Per::step);

// LambdaLR: the author's own factor of t. The name is what ranks compare.
Schedule by_function(std::string name, std::function<double(int64_t)> factor, Per per = Per::epoch);

// SequentialLR: one after the other, each counting from the milestone at which it begins; those that need an
// end have the next milestone for it. One milestone less than parts.
Schedule sequential(std::vector<Schedule> parts, std::vector<int64_t> milestones, Per per = Per::epoch);
// The product of all. ChainedScheduler has that of schedules that multiply the rate; its CosineAnnealingLR
// with eta_min above 0 adds as well, and differs.
Schedule chained(std::vector<Schedule> parts);

// Linear warm-up over the first `warmup` share of all steps, then half a cosine down to zero at the last step
// (Loshchilov and Hutter, "SGDR", 2017, without restarts).
Schedule warmup_cosine(double warmup = 0.1);

}  // namespace lab
