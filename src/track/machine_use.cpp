#include "lab/track/machine_use.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "track/nvml.h"

namespace lab {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

const std::string machine = ":monitor:machine", gpu = ":monitor:gpu";
constexpr double mib = 1024.0 * 1024, gib = 1024 * mib;
constexpr uint64_t sector_bytes = 512;  // of /proc/diskstats, whatever the disk's own are

std::string content(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::optional<uint64_t> number(std::string_view word) {
  uint64_t value = 0;
  const auto [end, problem] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (problem != std::errc() || end != word.data() + word.size()) return std::nullopt;
  return value;
}

std::vector<std::string> words_of(const std::string& line) {
  std::istringstream in(line);
  return {std::istream_iterator<std::string>(in), {}};
}

std::optional<uint64_t> number_at(const std::vector<std::string>& words, size_t index) {
  return index < words.size() ? number(words[index]) : std::nullopt;
}

template <class Visit>
void for_each_line(const std::string& text, const Visit& visit) {
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) visit(line);
}

void add_traffic(std::optional<Traffic>& sum, std::optional<uint64_t> in, std::optional<uint64_t> out) {
  if (!in || !out) return;
  const Traffic before = sum.value_or(Traffic{});
  sum = Traffic{before.in + *in, before.out + *out};
}

// Disks that are a device of their own, not a part or a view of others.
std::vector<std::string> whole_disks(const std::string& root) {
  std::vector<std::string> disks;
  std::error_code problem;
  for (fs::directory_iterator entry(root + "/sys/block", problem), end; !problem && entry != end;
       entry.increment(problem)) {
    std::error_code ignored;
    if (fs::exists(entry->path() / "device", ignored)) disks.push_back(entry->path().filename().string());
  }
  return disks;
}

// Files of the processors' own sensors, in thousandths of a degree.
std::vector<std::string> processor_thermometers(const std::string& root) {
  std::vector<std::string> files;
  std::error_code problem;
  for (fs::directory_iterator sensor(root + "/sys/class/hwmon", problem), end; !problem && sensor != end;
       sensor.increment(problem)) {
    if (content(sensor->path().string() + "/name") != "coretemp\n") continue;
    for (fs::directory_iterator file(sensor->path(), problem); !problem && file != end;
         file.increment(problem)) {
      const std::string name = file->path().filename().string();
      if (name.starts_with("temp") && name.ends_with("_input")) files.push_back(file->path().string());
    }
  }
  return files;
}

}  // namespace

std::optional<ProcessorTime> processor_time(const std::string& proc_stat) {
  const auto words = words_of(proc_stat.substr(0, proc_stat.find('\n')));
  if (words.size() < 5 || words[0] != "cpu") return std::nullopt;
  ProcessorTime time;
  // user nice system idle iowait irq softirq steal; guests' times behind them are part of user and nice.
  for (size_t i = 1; i < std::min<size_t>(words.size(), 9); ++i) {
    const auto ticks = number(words[i]);
    if (!ticks) return std::nullopt;
    time.total += *ticks;
    if (i != 4 && i != 5) time.busy += *ticks;
  }
  return time;
}

std::optional<uint64_t> available_memory(const std::string& proc_meminfo) {
  std::optional<uint64_t> available, free;
  uint64_t caches = 0;
  for_each_line(proc_meminfo, [&](const std::string& line) {
    const auto words = words_of(line);
    const auto kib = number_at(words, 1);
    if (!kib) return;
    if (words[0] == "MemAvailable:") available = *kib * 1024;
    if (words[0] == "MemFree:") free = *kib * 1024;
    if (words[0] == "Buffers:" || words[0] == "Cached:") caches += *kib * 1024;
  });
  if (!available && free) available = *free + caches;
  return available;
}

std::optional<uint64_t> resident_pages(const std::string& proc_statm) {
  return number_at(words_of(proc_statm), 1);
}

std::optional<Traffic> network_traffic(const std::string& proc_net_dev) {
  std::optional<Traffic> sum;
  for_each_line(proc_net_dev, [&](const std::string& line) {
    const size_t colon = line.rfind(':');  // an alias has one in its name
    if (colon == std::string::npos) return;
    const auto words = words_of(line.substr(colon + 1));
    add_traffic(sum, number_at(words, 0), number_at(words, 8));
  });
  return sum;
}

std::optional<Traffic> disk_traffic(const std::string& proc_diskstats,
                                    const std::vector<std::string>& disks) {
  std::optional<Traffic> sum;
  for_each_line(proc_diskstats, [&](const std::string& line) {
    const auto words = words_of(line);
    if (words.size() < 3 || std::ranges::find(disks, words[2]) == disks.end()) return;
    add_traffic(sum, number_at(words, 5), number_at(words, 9));
  });
  if (sum) sum = Traffic{sum->in * sector_bytes, sum->out * sector_bytes};
  return sum;
}

struct MachineUse::Counters {
  Clock::time_point time;
  std::optional<ProcessorTime> processors;
  std::optional<Traffic> network, disks;
};

MachineUse::MachineUse(std::string disk_folder, std::string root)
    : disk_folder_(std::move(disk_folder)),
      root_(std::move(root)),
      disks_(whole_disks(root_)),
      thermometers_(processor_thermometers(root_)),
      last_(std::make_unique<Counters>(counters())),
      nvml_(root_.empty() ? detail::Nvml::open() : nullptr) {}

MachineUse::~MachineUse() = default;

MachineUse::Counters MachineUse::counters() const {
  return {.time = Clock::now(),
          .processors = processor_time(content(root_ + "/proc/stat")),
          .network = network_traffic(content(root_ + "/proc/net/dev")),
          .disks = disk_traffic(content(root_ + "/proc/diskstats"), disks_)};
}

std::vector<MachinePoint> MachineUse::sample() {
  std::vector<MachinePoint> points;
  add_rates(points);
  add_levels(points);
  if (nvml_)
    for (const auto& [name, value] : nvml_->sample()) points.push_back({gpu, name, value});
  return points;
}

void MachineUse::add_rates(std::vector<MachinePoint>& points) {
  const Counters now = counters(), before = *last_;
  *last_ = now;
  const double seconds = std::chrono::duration<double>(now.time - before.time).count();
  if (now.processors && before.processors && now.processors->total > before.processors->total &&
      now.processors->busy >= before.processors->busy)
    points.push_back({machine, "cpu_usage",
                      100 * static_cast<double>(now.processors->busy - before.processors->busy) /
                          static_cast<double>(now.processors->total - before.processors->total)});
  // A counter that went back has begun anew, with an interface or disk that came or went.
  const auto add = [&](const char* name, uint64_t bytes, uint64_t bytes_before) {
    if (bytes >= bytes_before && seconds > 0)
      points.push_back({machine, name, static_cast<double>(bytes - bytes_before) / mib / seconds});
  };
  if (now.network && before.network) {
    add("network_tx_mbs", now.network->out, before.network->out);
    add("network_rx_mbs", now.network->in, before.network->in);
  }
  if (now.disks && before.disks) {
    add("io_read_mbs", now.disks->in, before.disks->in);
    add("io_write_mbs", now.disks->out, before.disks->out);
  }
}

void MachineUse::add_levels(std::vector<MachinePoint>& points) const {
  const auto add = [&](const char* name, double value) { points.push_back({machine, name, value}); };
  if (const auto pages = resident_pages(content(root_ + "/proc/self/statm")))
    add("memory_used_gb", static_cast<double>(*pages) * static_cast<double>(sysconf(_SC_PAGESIZE)) / gib);
  if (const auto bytes = available_memory(content(root_ + "/proc/meminfo")))
    add("memory_free_gb", static_cast<double>(*bytes) / gib);
  struct statvfs disk {};
  if (statvfs(disk_folder_.c_str(), &disk) == 0) {
    // As `df` has it: of the blocks that are not kept for root.
    const auto used = static_cast<double>(disk.f_blocks - disk.f_bfree);
    const auto free = static_cast<double>(disk.f_bavail);
    if (used + free > 0) add("disk_free_percent", 100 * free / (used + free));
  }
  double hottest = 0;
  for (const std::string& file : thermometers_)
    if (const auto words = words_of(content(file)); const auto degrees = number_at(words, 0))
      hottest = std::max(hottest, static_cast<double>(*degrees) / 1000);
  if (hottest > 0) add("cpu_temperature", hottest);
}

}  // namespace lab
