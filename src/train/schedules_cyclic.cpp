// Schedules that rise and fall, and those made of others.

#include <algorithm>
#include <cmath>
#include <numbers>

#include "lab/core/error.h"
#include "lab/train/schedule.h"

namespace lab {
namespace {

int64_t count_at(const SchedulePoint& at, Per per) { return per == Per::step ? at.step : at.epoch; }

int64_t count_of_run(const SchedulePoint& at, Per per) {
  return per == Per::step ? at.total_steps : (at.total_steps + at.steps_per_epoch - 1) / at.steps_per_epoch;
}

struct Phase {
  double end = 0;           // its last t
  double from = 1, to = 1;  // factors
};

// As torch cuts a cycle: phases end where a rate is reached, and the first begins at 0.
std::vector<Phase> phases(const OneCycle& options, double total) {
  const double first = 1 / options.div_factor, last = first / options.final_div_factor;
  const double risen = options.pct_start * total - 1;
  if (options.three_phase)
    return {{risen, first, 1}, {2 * options.pct_start * total - 2, 1, first}, {total - 1, first, last}};
  return {{risen, first, 1}, {total - 1, 1, last}};
}

double cycle_factor(const OneCycle& options, int64_t t, int64_t total) {
  const auto list = phases(options, static_cast<double>(total));
  const double at = static_cast<double>(std::min(t, total - 1));
  double begin = 0;
  const Phase* phase = list.data();
  for (; at > phase->end && phase != &list.back(); ++phase) begin = phase->end;
  const double share = phase->end > begin ? (at - begin) / (phase->end - begin) : 1;
  if (options.linear) return phase->from + (phase->to - phase->from) * share;
  return phase->to + (phase->from - phase->to) / 2 * (1 + std::cos(std::numbers::pi * share));
}

// The same place counted from a milestone; the end is the next one, or the run's where that is negative.
SchedulePoint since(const SchedulePoint& at, int64_t milestone, int64_t next, Per per) {
  const int64_t unit = per == Per::step ? 1 : at.steps_per_epoch;
  const int64_t end = next < 0 ? at.total_steps : next * unit;
  SchedulePoint from = at;
  from.step -= milestone * unit;
  from.epoch = per == Per::epoch ? at.epoch - milestone : from.step / at.steps_per_epoch;
  from.total_steps = end < 0 ? -1 : std::max<int64_t>(end - milestone * unit, 0);
  return from;
}

std::string names_of(const char* name, const std::vector<Schedule>& parts) {
  std::vector<std::string> names;
  for (const Schedule& part : parts) names.push_back(part.name);
  return text(name, "(", join(names), ")");
}

}  // namespace

Schedule one_cycle(const OneCycle& options, Per per) {
  if (options.total < 0 || options.pct_start < 0 || options.pct_start > 1)
    throw ConfigError("the schedule one_cycle has a total of ", options.total, " and rises for ",
                      options.pct_start, " of it; the first must not be negative, the other within 0 and 1");
  return {"one_cycle",
          [options, per](const SchedulePoint& at) {
            const int64_t total = options.total > 0 ? options.total : count_of_run(at, per);
            return cycle_factor(options, count_at(at, per), total);
          },
          options.total == 0};
}

Schedule cyclic(const Cyclic& options, Per per) {
  if (options.up < 1 || options.down < 0)
    throw ConfigError("the schedule cyclic rises for ", options.up, " and falls for ", options.down,
                      "; the first must be 1 or more, the other not negative");
  return {"cyclic", [options, per](const SchedulePoint& at) {
            const auto t = static_cast<double>(count_at(at, per)), up = static_cast<double>(options.up);
            const double size = up + (options.down > 0 ? static_cast<double>(options.down) : up);
            const double cycle = std::floor(1 + t / size), x = 1 + t / size - cycle, top = up / size;
            const double height = x <= top ? x / top : (x - 1) / (top - 1);
            const double scale = options.mode == Cyclic::Mode::triangular2 ? std::pow(0.5, cycle - 1)
                                 : options.mode == Cyclic::Mode::exp_range ? std::pow(options.gamma, t)
                                                                           : 1;
            return 1 + (options.highest - 1) * height * scale;
          }};
}

Schedule sequential(std::vector<Schedule> parts, std::vector<int64_t> milestones, Per per) {
  if (parts.empty() || milestones.size() + 1 != parts.size() || !std::ranges::is_sorted(milestones) ||
      (!milestones.empty() && milestones.front() < 0))
    throw ConfigError("the schedule sequential has ", parts.size(), " parts and ", milestones.size(),
                      " milestones; it needs one part more than milestones, and these in order");
  std::string name = names_of("sequential", parts);
  const bool needs_end = parts.back().needs_end;
  return {std::move(name),
          [parts = std::move(parts), milestones = std::move(milestones), per](const SchedulePoint& at) {
            const auto next = std::ranges::upper_bound(milestones, count_at(at, per));
            const auto index = static_cast<size_t>(next - milestones.begin());
            return parts[index].factor(since(at, index == 0 ? 0 : milestones[index - 1],
                                             next == milestones.end() ? -1 : *next, per));
          },
          needs_end};
}

Schedule chained(std::vector<Schedule> parts) {
  std::string name = names_of("chained", parts);
  const bool needs_end = std::ranges::any_of(parts, &Schedule::needs_end);
  return {std::move(name),
          [parts = std::move(parts)](const SchedulePoint& at) {
            double factor = 1;
            for (const Schedule& part : parts) factor *= part.factor(at);
            return factor;
          },
          needs_end};
}

}  // namespace lab
