#include "lab/train/plateau.h"

#include <algorithm>
#include <sstream>

#include "lab/core/error.h"

namespace lab {

ReduceOnPlateau::ReduceOnPlateau(Plateau options)
    : options_(std::move(options)),
      best_(options_.mode == Mode::min ? std::numeric_limits<double>::infinity()
                                       : -std::numeric_limits<double>::infinity()) {
  if (!(options_.factor >= 0 && options_.factor < 1) || options_.patience < 0 || options_.cooldown < 0)
    throw ConfigError("the rate is to be multiplied by ", options_.factor, " on a plateau, with patience ",
                      options_.patience, " and cooldown ", options_.cooldown,
                      "; the factor must be below 1, the others not negative");
}

void ReduceOnPlateau::fit_started(const FitReport& report) {
  if (std::ranges::find(report.tags, options_.monitor) == report.tags.end())
    throw ConfigError("the rate is to be reduced on a plateau of ", quoted(options_.monitor),
                      ", which is not measured; measured are: ", join(report.tags));
}

// NaN never is.
bool ReduceOnPlateau::is_better(double value) const {
  const double threshold = options_.threshold;
  if (options_.mode == Mode::min)
    return value < (options_.relative ? best_ * (1 - threshold) : best_ - threshold);
  return value > (options_.relative ? best_ * (1 + threshold) : best_ + threshold);
}

Signal ReduceOnPlateau::epoch_finished(const EpochReport& report) {
  const auto value = value_of(report.values, options_.monitor);
  if (!value) return {};  // not in this epoch
  const bool better = is_better(*value);
  if (better) best_ = *value;
  bad_epochs_ = better ? 0 : bad_epochs_ + 1;
  if (cooldown_ > 0) {
    --cooldown_;
    bad_epochs_ = 0;
  }
  if (bad_epochs_ <= options_.patience) return {};
  const double reduced = std::max(factor_ * options_.factor, options_.min_factor);
  if (factor_ - reduced > options_.eps) factor_ = reduced;
  cooldown_ = options_.cooldown;
  bad_epochs_ = 0;
  return {};
}

std::string ReduceOnPlateau::state() const {
  return text(shortest(best_), ' ', bad_epochs_, ' ', cooldown_, ' ', shortest(factor_));
}

void ReduceOnPlateau::restore(const std::string& state) {
  std::istringstream in(state);
  std::string best, factor;
  in >> best >> bad_epochs_ >> cooldown_ >> factor;
  best_ = std::stod(best);
  factor_ = std::stod(factor);
}

}  // namespace lab
