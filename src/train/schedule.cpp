#include "lab/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "lab/core/error.h"

namespace lab {
namespace {

void require(bool holds, const char* schedule, const char* rule) {
  if (!holds) throw ConfigError("the schedule ", schedule, ": ", rule);
}

// A schedule that looks at one number, its t.
template <class Factor>
Schedule counting(std::string name, Per per, Factor factor) {
  return {std::move(name), [per, factor = std::move(factor)](const SchedulePoint& at) -> double {
            return factor(per == Per::step ? at.step : at.epoch);
          }};
}

double ratio(int64_t part, int64_t whole) { return static_cast<double>(part) / static_cast<double>(whole); }

// From 1 down to `least` where `share` is 1.
double cosine(double share, double least) {
  return least + (1 - least) * (1 + std::cos(std::numbers::pi * share)) / 2;
}

}  // namespace

Schedule step_decay(int64_t every, double gamma, Per per) {
  require(every >= 1, "step_decay", "the rate must stay for 1 or more");
  return counting("step_decay", per,
                  [=](int64_t t) { return std::pow(gamma, static_cast<double>(t / every)); });
}

Schedule multi_step(std::vector<int64_t> milestones, double gamma, Per per) {
  return counting("multi_step", per, [milestones = std::move(milestones), gamma](int64_t t) {
    double factor = 1;
    for (const int64_t milestone : milestones)
      if (t >= milestone) factor *= gamma;
    return factor;
  });
}

Schedule constant_start(double factor, int64_t count, Per per) {
  require(count >= 0, "constant_start", "its count is negative");
  return counting("constant_start", per, [=](int64_t t) { return t < count ? factor : 1.0; });
}

Schedule linear_ramp(double start, double end, int64_t count, Per per) {
  require(count >= 1, "linear_ramp", "it must take 1 or more");
  return counting("linear_ramp", per,
                  [=](int64_t t) { return start + (end - start) * ratio(std::min(t, count), count); });
}

Schedule exponential_decay(double gamma, Per per) {
  return counting("exponential_decay", per,
                  [=](int64_t t) { return std::pow(gamma, static_cast<double>(t)); });
}

Schedule polynomial_decay(int64_t count, double power, Per per) {
  require(count >= 1, "polynomial_decay", "it must take 1 or more");
  return counting("polynomial_decay", per,
                  [=](int64_t t) { return std::pow(1 - ratio(std::min(t, count), count), power); });
}

Schedule cosine_annealing(int64_t count, double least, Per per) {
  require(count >= 1, "cosine_annealing", "it must take 1 or more");
  return counting("cosine_annealing", per, [=](int64_t t) { return cosine(ratio(t, count), least); });
}

Schedule cosine_warm_restarts(int64_t first, int64_t longer, double least, Per per) {
  require(first >= 1 && longer >= 1, "cosine_warm_restarts", "its lengths must be 1 or more");
  return counting("cosine_warm_restarts", per, [=](int64_t t) {
    int64_t length = first;
    for (; longer > 1 && t >= length; length *= longer) t -= length;
    return cosine(ratio(t % length, length), least);
  });
}

Schedule by_function(std::string name, std::function<double(int64_t)> factor, Per per) {
  return counting(std::move(name), per, std::move(factor));
}

Schedule warmup_cosine(double warmup) {
  return {"warmup_cosine",
          [warmup](const SchedulePoint& at) {
            const auto total = static_cast<double>(at.total_steps), step = static_cast<double>(at.step);
            const double warm = std::max(1.0, std::floor(total * warmup));
            const double down = std::max(0.0, step - warm) / std::max(1.0, total - warm);
            return std::min((step + 1) / warm, 0.5 * (1 + std::cos(std::numbers::pi * down)));
          },
          true};
}

}  // namespace lab
