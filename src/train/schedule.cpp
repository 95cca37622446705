#include "lab/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace lab {

Schedule multi_step(std::vector<int64_t> milestones, double gamma) {
  return {"multi_step", [milestones = std::move(milestones), gamma](const SchedulePoint& at) {
            double factor = 1;
            for (const int64_t milestone : milestones)
              if (at.epoch >= milestone) factor *= gamma;
            return factor;
          }};
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
