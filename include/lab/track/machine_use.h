#pragma once
// How much of the machine a run uses: processors, memory, disk, network and GPUs, under the names that
// ClearML's SDK reports them by.

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "lab/track/spool.h"

namespace lab {
namespace detail {
class Nvml;
}

struct MachinePoint {
  std::string title, series;  // ":monitor:machine", "cpu_usage"
  double value = 0;
  bool operator==(const MachinePoint&) const = default;
};

// Files of /proc as Linux writes them. Each returns nullopt for contents that lack what is asked for, as in
// some containers; none throws.

// Of all processors together since the system started, in ticks.
struct ProcessorTime {
  uint64_t busy = 0, total = 0;
};
std::optional<ProcessorTime> processor_time(const std::string& proc_stat);
// Bytes that a new program could have without swapping.
std::optional<uint64_t> available_memory(const std::string& proc_meminfo);
// Pages that the process has in memory.
std::optional<uint64_t> resident_pages(const std::string& proc_statm);
// Bytes since the system started.
struct Traffic {
  uint64_t in = 0, out = 0;  // network: received, sent; disks: read, written
};
// All interfaces.
std::optional<Traffic> network_traffic(const std::string& proc_net_dev);
// The disks named, which should be whole ones: partitions and mapped disks would count twice.
std::optional<Traffic> disk_traffic(const std::string& proc_diskstats, const std::vector<std::string>& disks);

// What of the machine is used. What a system does not tell is left out. For one thread; nothing throws.
//   :monitor:machine   cpu_usage (percent of all processors), cpu_temperature (the hottest, Celsius),
//                      memory_used_gb (of this process, GiB), memory_free_gb, disk_free_percent,
//                      network_rx_mbs, network_tx_mbs, io_read_mbs, io_write_mbs (MiB/s)
//   :monitor:gpu       of each GPU N: gpu_N_utilization (percent), gpu_N_temperature, gpu_N_mem_used_gb,
//                      gpu_N_mem_free_gb, gpu_N_mem_usage (percent), gpu_N_power_draw (W)
class MachineUse {
 public:
  // disk_folder: the disk of which is meant. root: "" but in tests, where a folder stands for /.
  explicit MachineUse(std::string disk_folder, std::string root = "");
  ~MachineUse();
  MachineUse(const MachineUse&) = delete;
  MachineUse& operator=(const MachineUse&) = delete;

  // cpu_usage and those per second are means since the last call (at first: since it was made), and left out
  // where no time has passed; the others are as they are now.
  std::vector<MachinePoint> sample();

 private:
  struct Counters;
  Counters counters() const;
  void add_rates(std::vector<MachinePoint>& points);
  void add_levels(std::vector<MachinePoint>& points) const;

  std::string disk_folder_, root_;
  std::vector<std::string> disks_, thermometers_;
  std::unique_ptr<Counters> last_;
  std::unique_ptr<detail::Nvml> nvml_;  // none: no GPUs
};

// The means of samples, as the SDK reports them: the samples of all reports at one iteration count together,
// so that its point is the mean over the time that the run spent there.
class MachineReport {
 public:
  void add(const std::vector<MachinePoint>& sample);
  // nullopt as long as it is not known what the iteration is: no point was spooled (0), and the run is
  // younger than three minutes. A run that has none by then gets the seconds since its start instead.
  struct Report {
    int64_t iteration = 0;
    std::vector<MachinePoint> points;  // to three digits behind the point
  };
  std::optional<Report> report(int64_t iteration, std::chrono::seconds since_start);

 private:
  struct Sum {
    double total = 0;
    int64_t count = 0;
    void operator+=(const Sum& other) {
      total += other.total;
      count += other.count;
    }
  };
  using Sums = std::map<std::pair<std::string, std::string>, Sum>;
  Sums fresh_, reported_;  // since the last report; of the reports at the last iteration
  int64_t last_iteration_ = -1;
};

struct MachineMonitorOptions {
  std::chrono::milliseconds sample{5'000}, report{30'000};
};

// A thread that samples, and appends means to the spool every 30 s and at its end. Nothing throws; where the
// system has no thread for it, nothing is reported. Ends within 100 ms.
class MachineMonitor {
 public:
  // The spool must outlive it.
  MachineMonitor(Spool& spool, std::string disk_folder, MachineMonitorOptions options = {});
  ~MachineMonitor();
  MachineMonitor(const MachineMonitor&) = delete;
  MachineMonitor& operator=(const MachineMonitor&) = delete;

 private:
  void watch(const std::string& disk_folder);

  Spool& spool_;
  MachineMonitorOptions options_;
  std::mutex mutex_;
  std::condition_variable woken_;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace lab
