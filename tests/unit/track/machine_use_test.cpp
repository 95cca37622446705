#include "lab/track/machine_use.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "track/nvml.h"
#include "unit/temporary_folder.h"

namespace lab {

std::ostream& operator<<(std::ostream& out, const MachinePoint& point) {
  return out << point.title << '/' << point.series << '=' << point.value;
}

namespace {

namespace fs = std::filesystem;
using testing::Contains;
using testing::DoubleNear;
using testing::ElementsAre;
using testing::Field;
using testing::Not;

const std::string machine = ":monitor:machine";

TEST(ProcessorTime, OfProcStat) {
  struct Case {
    std::string text;
    std::optional<std::pair<uint64_t, uint64_t>> busy_total;
  };
  for (const auto& [text, expected] : std::vector<Case>{
           {"cpu  10 20 30 400 50 6 7 8 9 1\ncpu0 1 2 3 4 5 6 7 8 9 1\nintr 5\n", std::pair(81, 531)},
           {"cpu  10 20 30 400\n", std::pair(60, 460)},  // Linux before 2.6
           {"cpu 1 2 3 4 5 6 7", std::pair(19, 28)},
           {"cpu  18446744073709551615 0 0 0 0", std::pair(UINT64_MAX, UINT64_MAX)},
           {"", {}},
           {"cpu0 1 2 3 4 5 6 7 8 9 1\n", {}},
           {"cpu  1 2 3\n", {}},
           {"cpu  1 2 x 4 5\n", {}},
           {"cpu  1 -2 3 4 5\n", {}},
           {"intr 1 2 3 4 5 6 7\ncpu  1 2 3 4 5\n", {}}}) {
    const auto found = processor_time(text);
    ASSERT_EQ(found.has_value(), expected.has_value()) << text;
    if (!found) continue;
    EXPECT_EQ(found->busy, expected->first) << text;
    EXPECT_EQ(found->total, expected->second) << text;
  }
}

TEST(AvailableMemory, OfProcMeminfo) {
  EXPECT_EQ(available_memory("MemTotal: 9 kB\nMemFree:  3 kB\nMemAvailable:   5 kB\nCached: 4 kB\n"),
            5 * 1024u);
  EXPECT_EQ(available_memory("MemTotal: 9 kB\nMemFree: 3 kB\nBuffers: 1 kB\nCached: 2 kB\n"), 6 * 1024u);
  EXPECT_EQ(available_memory("MemFree: 3 kB"), 3 * 1024u);
  for (const std::string text : {"", "Cached: 2 kB\n", "MemAvailable:\n", "MemAvailable: many\n", "\n \n"})
    EXPECT_EQ(available_memory(text), std::nullopt) << text;
}

TEST(ResidentPages, OfProcStatm) {
  EXPECT_EQ(resident_pages("1000 200 30 4 0 50 0\n"), 200u);
  for (const std::string text : {"", "1000", "1000 x 30", "1000 -3"})
    EXPECT_EQ(resident_pages(text), std::nullopt);
}

TEST(NetworkTraffic, OfProcNetDev) {
  const std::string head =
      "Inter-|   Receive                                                |  Transmit\n"
      " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo "
      "colls carrier compressed\n";
  struct Case {
    std::string text;
    std::optional<std::pair<uint64_t, uint64_t>> in_out;
  };
  for (const auto& [text, expected] : std::vector<Case>{
           {head + "    lo: 100 1 0 0 0 0 0 0 100 1 0 0 0 0 0 0\n  eth0: 7 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n",
            std::pair(107, 105)},
           {head + "eth0:7 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n", std::pair(7, 5)},  // long numbers leave no blank
           {head + "eth0:1: 7 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n", std::pair(7, 5)},
           {head + "eth0: 7 1 0 0\nlo: 1 0 0 0 0 0 0 0 2 0 0 0 0 0 0 0", std::pair(1, 2)},
           {head, {}},
           {"", {}},
           {"eth0: a b c d e f g h i\n", {}}}) {
    const auto found = network_traffic(text);
    ASSERT_EQ(found.has_value(), expected.has_value()) << text;
    if (!found) continue;
    EXPECT_EQ(std::pair(found->in, found->out), *expected) << text;
  }
}

TEST(DiskTraffic, OfProcDiskstats) {
  const std::string text =
      "   8       0 sda 10 1 200 5 20 2 400 9 0 1 2 3 4 5 6\n"
      "   8       1 sda1 10 1 100 5 20 2 300 9 0 1 2 3 4 5 6\n"
      " 259       0 nvme0n1 1 0 7 0 1 0 9 0 0 0 0\n"
      " 253       0 dm-0 1 0 50 0 1 0 50 0 0 0 0\n";
  const auto both = disk_traffic(text, {"sda", "nvme0n1"});
  ASSERT_TRUE(both);
  EXPECT_EQ(both->in, 207 * 512u);
  EXPECT_EQ(both->out, 409 * 512u);
  EXPECT_FALSE(disk_traffic(text, {}));
  EXPECT_FALSE(disk_traffic(text, {"sdb"}));
  EXPECT_FALSE(disk_traffic("", {"sda"}));
  EXPECT_FALSE(disk_traffic("8 0 sda 10 1 200\n", {"sda"}));
  EXPECT_FALSE(disk_traffic("8 0 sda 10 1 x 5 20 2 400 9\n", {"sda"}));
}

// A folder that stands for /.
class MachineUseTest : public testing::Test {
 protected:
  void put(const std::string& path, const std::string& bytes) {
    fs::create_directories(fs::path(root_ / path).parent_path());
    test::write_bytes(root_ / path, bytes);
  }
  static std::optional<double> value(const std::vector<MachinePoint>& points, const std::string& series) {
    for (const auto& point : points)
      if (point.title == machine && point.series == series) return point.value;
    return std::nullopt;
  }

  const test::TemporaryFolder root_;
};

TEST_F(MachineUseTest, SaysWhatTheMachineTells) {
  put("sys/block/sda/device/x", "");
  put("sys/block/dm-0/x", "");  // no device of its own
  put("sys/class/hwmon/hwmon0/name", "coretemp\n");
  put("sys/class/hwmon/hwmon0/temp1_input", "41500\n");
  put("sys/class/hwmon/hwmon0/temp2_input", "43000\n");
  put("sys/class/hwmon/hwmon0/temp2_max", "99000\n");
  put("sys/class/hwmon/hwmon1/name", "nvme\n");
  put("sys/class/hwmon/hwmon1/temp1_input", "70000\n");
  put("proc/stat", "cpu  100 0 0 900 0 0 0 0\n");
  put("proc/net/dev", "lo: 1000 0 0 0 0 0 0 0 5000 0\n");
  put("proc/diskstats", "8 0 sda 0 0 10 0 0 0 20 0\n253 0 dm-0 0 0 0 0 0 0 0 0\n");
  put("proc/self/statm", "9 262144 1\n");
  put("proc/meminfo", "MemAvailable: 3145728 kB\n");
  MachineUse use(root_.path(), root_.path());
  put("proc/stat", "cpu  130 0 0 970 0 0 0 0\n");
  put("proc/net/dev", "lo: 11000 0 0 0 0 0 0 0 5000 0\n");
  put("proc/diskstats", "8 0 sda 0 0 10 0 0 0 2020 0\n253 0 dm-0 0 0 9 0 0 0 9 0\n");
  const auto points = use.sample();
  EXPECT_EQ(value(points, "cpu_usage"), 30);
  EXPECT_EQ(value(points, "cpu_temperature"), 43);
  EXPECT_EQ(value(points, "memory_free_gb"), 3);
  EXPECT_EQ(value(points, "memory_used_gb"),
            262144.0 * static_cast<double>(sysconf(_SC_PAGESIZE)) / (1 << 30));
  EXPECT_GT(value(points, "disk_free_percent"), 0);
  EXPECT_LE(value(points, "disk_free_percent"), 100);
  EXPECT_GT(value(points, "network_rx_mbs"), 0);
  EXPECT_EQ(value(points, "network_tx_mbs"), 0);
  EXPECT_EQ(value(points, "io_read_mbs"), 0);
  // Both are over the same time: 1,024,000 bytes against 10,000.
  EXPECT_THAT(*value(points, "io_write_mbs") / *value(points, "network_rx_mbs"), DoubleNear(102.4, 1e-6));
  EXPECT_EQ(points.size(), 9u);
}

TEST_F(MachineUseTest, LeavesOutWhatIsNotThere) {
  MachineUse use("/nowhere", root_.path());
  EXPECT_THAT(use.sample(), ElementsAre());
  put("proc/stat", "cpu  130 0 0 970 0 0 0 0\n");  // there from now on
  EXPECT_THAT(use.sample(), ElementsAre());
  put("proc/stat", "cpu  230 0 0 970 0 0 0 0\n");
  EXPECT_THAT(use.sample(), ElementsAre(MachinePoint{machine, "cpu_usage", 100}));
  EXPECT_THAT(use.sample(), ElementsAre());  // no time has passed
}

TEST_F(MachineUseTest, DoesNotBelieveCountersThatGoBack) {
  put("proc/stat", "cpu  100 0 0 900 0 0 0 0\n");
  put("proc/net/dev", "lo: 1000 0 0 0 0 0 0 0 5000 0\n");
  MachineUse use("/nowhere", root_.path());
  put("proc/stat", "cpu  90 0 0 920 0 0 0 0\n");
  put("proc/net/dev", "lo: 10 0 0 0 0 0 0 0 5000 0\n");
  EXPECT_THAT(use.sample(), ElementsAre(MachinePoint{machine, "network_tx_mbs", 0}));
}

TEST(MachineUse, OfThisMachine) {
  MachineUse use(fs::temp_directory_path());
  const auto points = use.sample();
  EXPECT_THAT(points, Contains(Field(&MachinePoint::series, "memory_used_gb")));
  EXPECT_THAT(points, Contains(Field(&MachinePoint::series, "disk_free_percent")));
  for (const auto& point : points) EXPECT_GE(point.value, 0) << point.series;
}

// --- GPUs

int succeeds() { return 0; }
int fails() { return 9; }
int two(unsigned int* count) { return *count = 2, 0; }
int numbered(unsigned int index, detail::NvmlDevice* device) {
  return *device = reinterpret_cast<void*>(uintptr_t{index} + 1), 0;
}
int warm(detail::NvmlDevice, int, unsigned int* degrees) { return *degrees = 60, 0; }
int first_alone(detail::NvmlDevice device, detail::NvmlUtilization* use) {
  use->gpu = 75;
  return device == reinterpret_cast<void*>(1) ? 0 : 3;
}
int quarter(detail::NvmlDevice, detail::NvmlMemory* memory) {
  return *memory = {8ull << 30, 6ull << 30, 2ull << 30}, 0;
}
int no_power(detail::NvmlDevice, unsigned int*) { return 3; }

detail::NvmlFunctions two_gpus() {
  return {succeeds, succeeds, two, numbered, warm, first_alone, quarter, no_power};
}

TEST(Nvml, SaysWhatEachGpuTells) {
  const auto nvml = detail::Nvml::with(two_gpus());
  ASSERT_TRUE(nvml);
  std::vector<std::pair<std::string, double>> found;
  for (const auto& [name, value] : nvml->sample()) found.emplace_back(name, value);
  EXPECT_THAT(found, ElementsAre(std::pair("gpu_0_temperature", 60), std::pair("gpu_0_utilization", 75),
                                 std::pair("gpu_0_mem_used_gb", 2), std::pair("gpu_0_mem_free_gb", 6),
                                 std::pair("gpu_0_mem_usage", 25), std::pair("gpu_1_temperature", 60),
                                 std::pair("gpu_1_mem_used_gb", 2), std::pair("gpu_1_mem_free_gb", 6),
                                 std::pair("gpu_1_mem_usage", 25)));
}

TEST(Nvml, IsNothingWithoutDriverOrLibrary) {
  detail::NvmlFunctions without_driver = two_gpus();
  without_driver.init = fails;
  EXPECT_FALSE(detail::Nvml::with(without_driver));
  EXPECT_FALSE(detail::Nvml::open("libno-such-library.so.1"));
  EXPECT_FALSE(detail::Nvml::open("libm.so.6"));  // a library without those functions
}

// --- reports

std::vector<MachinePoint> used(double value) { return {{machine, "cpu_usage", value}}; }

std::optional<std::pair<int64_t, double>> reported(MachineReport& means, int64_t iteration, int64_t seconds) {
  const auto report = means.report(iteration, std::chrono::seconds(seconds));
  if (!report || report->points.size() != 1) return std::nullopt;
  return std::pair(report->iteration, report->points[0].value);
}

TEST(MachineReport, IsTheMeanOfTheTimeAtAnIteration) {
  MachineReport means;
  means.add(used(1));
  means.add(used(2));
  EXPECT_EQ(reported(means, 10, 30), std::pair(int64_t{10}, 1.5));
  means.add(used(6));
  EXPECT_EQ(reported(means, 10, 60), std::pair(int64_t{10}, 3.0));
  means.add(used(7));
  EXPECT_EQ(reported(means, 20, 90), std::pair(int64_t{20}, 7.0));
  EXPECT_EQ(reported(means, 20, 91), std::pair(int64_t{20}, 7.0));
  means.add(used(1.0 / 3));
  EXPECT_EQ(reported(means, 30, 120), std::pair(int64_t{30}, 0.333));
  EXPECT_EQ(reported(means, 40, 150), std::nullopt);
}

TEST(MachineReport, WaitsForTheFirstIteration) {
  MachineReport means;
  means.add(used(1));
  EXPECT_EQ(reported(means, 0, 30), std::nullopt);
  means.add(used(3));
  EXPECT_EQ(reported(means, 5, 60), std::pair(int64_t{5}, 2.0));
}

TEST(MachineReport, CountsSecondsWhereThereIsNoIteration) {
  MachineReport means;
  means.add(used(1));
  EXPECT_EQ(reported(means, 0, 179), std::nullopt);
  means.add(used(3));
  EXPECT_EQ(reported(means, 0, 180), std::pair(int64_t{180}, 2.0));
  means.add(used(5));
  EXPECT_EQ(reported(means, 0, 210), std::pair(int64_t{210}, 5.0));
  means.add(used(7));
  EXPECT_EQ(reported(means, 3, 240), std::pair(int64_t{3}, 7.0));
}

class MachineMonitorTest : public testing::Test {
 protected:
  // The points of the machine that were spooled: iteration and series.
  std::vector<std::pair<int64_t, std::string>> spooled() const {
    std::vector<std::pair<int64_t, std::string>> points;
    std::ifstream in(run_ / spool_file);
    // A line that has not ended is still being written.
    for (std::string line; std::getline(in, line) && !in.eof();) {
      const auto record = nlohmann::json::parse(line);
      if (record.value("metric", "") == machine) points.emplace_back(record.at("iter"), record.at("variant"));
    }
    return points;
  }

  const test::TemporaryFolder run_;
};

TEST_F(MachineMonitorTest, ReportsAtItsEnd) {
  Spool spool(run_.path(), Log::silent());
  spool.scalars({{"loss", 12, 0, 0.5}}, 1);
  { const MachineMonitor monitor(spool, run_.path()); }
  EXPECT_THAT(spooled(), Contains(std::pair(int64_t{12}, std::string("memory_used_gb"))));
}

TEST_F(MachineMonitorTest, ReportsAgainAndAgain) {
  using std::chrono::milliseconds;
  Spool spool(run_.path(), Log::silent());
  spool.scalars({{"loss", 12, 0, 0.5}}, 1);
  const MachineMonitor monitor(spool, run_.path(), {.sample = milliseconds(1), .report = milliseconds(2)});
  const auto count = [&](int64_t iteration) {
    return std::ranges::count(spooled(), std::pair(iteration, std::string("memory_used_gb")));
  };
  while (count(12) < 3) std::this_thread::sleep_for(milliseconds(1));
  spool.scalars({{"loss", 13, 0, 0.5}}, 2);
  while (count(13) < 1) std::this_thread::sleep_for(milliseconds(1));
}

// Its iterations may be seconds: a run that goes on must not take them for its own.
TEST_F(MachineMonitorTest, DoesNotMoveTheRunsIteration) {
  {
    Spool spool(run_.path(), Log::silent());
    spool.scalars({{"loss", 12, 0, 0.5}}, 1);
    spool.point(machine, "cpu_usage", 1800, 50);
    spool.point(machine, "broken", 1800, NAN);
    EXPECT_EQ(spool.iteration(), 12);
  }
  EXPECT_EQ(Spool(run_.path(), Log::silent()).iteration(), 12);
  EXPECT_THAT(spooled(), ElementsAre(std::pair(int64_t{1800}, std::string("cpu_usage"))));
}

}  // namespace
}  // namespace lab
