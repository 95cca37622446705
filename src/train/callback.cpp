#include "lab/train/callback.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>

#include "lab/core/error.h"

namespace lab {

std::optional<double> value_of(const Values& values, const std::string& tag) {
  for (const auto& [name, value] : values)
    if (name == tag) return value;
  return std::nullopt;
}

namespace {

class StopEarly final : public Callback {
 public:
  explicit StopEarly(EarlyStopping options) : options_(std::move(options)) {}
  std::string name() const override { return "early_stopping"; }

  void fit_started(const FitReport& report) override {
    if (std::find(report.tags.begin(), report.tags.end(), options_.monitor) == report.tags.end())
      throw ConfigError("early stopping watches ", quoted(options_.monitor),
                        ", which is not measured; measured are: ", join(report.tags));
  }

  Signal epoch_finished(const EpochReport& report) override {
    const auto value = value_of(report.values, options_.monitor);
    if (!value) return {};  // not in this epoch
    const double sign = options_.mode == Mode::min ? 1 : -1;
    if (sign * *value < best_ - options_.min_delta) {
      best_ = sign * *value;
      waited_ = 0;
    } else {
      ++waited_;
    }
    if (waited_ < options_.patience) return {};
    return {true, text("early stopping: ", options_.monitor, " has not improved on ", shortest(sign * best_),
                       " for ", waited_, " epochs")};
  }

  std::string state() const override { return text(shortest(best_), " ", waited_); }
  void restore(const std::string& state) override {
    std::istringstream in(state);
    std::string best;
    in >> best >> waited_;
    best_ = std::stod(best);
  }

 private:
  EarlyStopping options_;
  double best_ = std::numeric_limits<double>::infinity();  // smaller is better, whatever the mode
  int64_t waited_ = 0;
};

}  // namespace

std::shared_ptr<Callback> early_stopping(EarlyStopping options) {
  return std::make_shared<StopEarly>(std::move(options));
}

}  // namespace lab
