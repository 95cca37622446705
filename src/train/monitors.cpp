// Callbacks that only record.

#include <sys/resource.h>

#include "lab/core/text.h"
#include "lab/train/callback.h"

namespace lab {
namespace {

class LearningRateMonitor final : public Callback {
 public:
  std::string name() const override { return "learning_rate_monitor"; }
  void fit_started(const FitReport& report) override {
    for (const auto& group : report.groups) tags_.push_back("learning_rate/" + group);
    if (tags_.size() < 2) tags_ = {"learning_rate"};
  }
  Signal step_finished(const StepReport& report) override {
    Signal signal;
    for (size_t i = 0; i < tags_.size(); ++i) signal.values.emplace_back(tags_[i], report.rates.at(i));
    return signal;
  }

 private:
  std::vector<std::string> tags_;
};

double most_gibibytes() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / (1 << 20);  // of KiB
}

class ThroughputMonitor final : public Callback {
 public:
  std::string name() const override { return "throughput_monitor"; }
  Signal epoch_finished(const EpochReport& report) override {
    if (report.seconds <= 0) return {};
    return {.values = {{"throughput/samples_per_second", report.samples_per_second},
                       {"throughput/seconds", report.seconds},
                       {"throughput/data_wait", report.data_seconds / report.seconds},
                       {"throughput/gradient_wait", report.gradient_seconds / report.seconds},
                       {"throughput/memory_gb", most_gibibytes()}}};
  }
};

}  // namespace

std::shared_ptr<Callback> learning_rate_monitor() { return std::make_shared<LearningRateMonitor>(); }
std::shared_ptr<Callback> throughput_monitor() { return std::make_shared<ThroughputMonitor>(); }

}  // namespace lab
