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

// gamma to the power of the milestones (epochs) passed; as torch's MultiStepLR.
Schedule multi_step(std::vector<int64_t> milestones, double gamma);

// Linear warm-up over the first `warmup` share of all steps, then half a cosine down to zero at the last step
// (Loshchilov and Hutter, "SGDR", 2017, without restarts).
Schedule warmup_cosine(double warmup = 0.1);

}  // namespace lab
