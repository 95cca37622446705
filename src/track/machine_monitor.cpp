#include <cmath>
#include <system_error>
#include <utility>

#include "lab/track/machine_use.h"

namespace lab {
namespace {
constexpr std::chrono::seconds until_points_are_due{180};
}

void MachineReport::add(const std::vector<MachinePoint>& sample) {
  for (const auto& [title, series, value] : sample) fresh_[{title, series}] += {value, 1};
}

std::optional<MachineReport::Report> MachineReport::report(int64_t iteration,
                                                           std::chrono::seconds since_start) {
  if (iteration == 0) {
    if (since_start < until_points_are_due) return std::nullopt;
    iteration = since_start.count();
  }
  if (iteration != std::exchange(last_iteration_, iteration)) reported_.clear();
  for (const auto& [name, sum] : fresh_) reported_[name] += sum;
  fresh_.clear();
  Report report{iteration, {}};
  for (const auto& [name, sum] : reported_)
    report.points.push_back(
        {name.first, name.second, std::round(1000 * sum.total / static_cast<double>(sum.count)) / 1000});
  return report;
}

MachineMonitor::MachineMonitor(Spool& spool, std::string disk_folder, MachineMonitorOptions options)
    : spool_(spool), options_(options) {
  try {
    thread_ = std::thread([this, folder = std::move(disk_folder)] { watch(folder); });
  } catch (const std::system_error&) {
    // Then there is none.
  }
}

MachineMonitor::~MachineMonitor() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  woken_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void MachineMonitor::watch(const std::string& disk_folder) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  auto reported = start;
  MachineUse use(disk_folder);
  MachineReport means;
  for (bool ending = false; !ending;) {
    {
      std::unique_lock lock(mutex_);
      ending = woken_.wait_for(lock, options_.sample, [this] { return ending_; });
    }
    try {
      means.add(use.sample());
    } catch (const std::exception&) {  // a device that fails when it is read
      continue;
    }
    const auto now = Clock::now();
    if (!ending && now - reported < options_.report) continue;
    reported = now;
    const auto since_start = std::chrono::duration_cast<std::chrono::seconds>(now - start);
    if (const auto report = means.report(spool_.iteration(), since_start))
      for (const auto& [title, series, value] : report->points)
        spool_.point(title, series, report->iteration, value);
  }
}

}  // namespace lab
