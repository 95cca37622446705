#include "lab/core/cores.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include "lab/core/text.h"

namespace {

std::vector<int> numbers(const cpu_set_t& cores) {
  std::vector<int> out;
  for (int i = 0; i < CPU_SETSIZE; ++i)
    if (CPU_ISSET(i, &cores)) out.push_back(i);
  return out;
}

cpu_set_t only(int core) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  CPU_SET(core, &cores);
  return cores;
}

TEST(Cores, AThreadMayUseTheSpareOnesBesideItsOwn) {
  const auto all = numbers(lab::own_cores());
  if (all.size() < 2) GTEST_SKIP() << "on one core there are no spare ones";
  std::vector<int> bound, without_spare, with_spare;
  std::thread([&] {
    const cpu_set_t mine = only(all[0]);
    ASSERT_EQ(sched_setaffinity(0, sizeof mine, &mine), 0);
    bound = numbers(lab::own_cores());
    lab::use_spare_cores();
    without_spare = numbers(lab::own_cores());
    lab::set_spare_cores(only(all[1]));
    lab::use_spare_cores();
    with_spare = numbers(lab::own_cores());
    lab::set_spare_cores({});
  }).join();
  EXPECT_EQ(bound, (std::vector{all[0]}));
  EXPECT_EQ(without_spare, bound);
  EXPECT_EQ(with_spare, (std::vector{all[0], all[1]}));
  EXPECT_EQ(numbers(lab::own_cores()), all) << "only the thread that asked has others";
}

TEST(Cores, NearOnesAreThoseOfTheSameNodes) {
  const cpu_set_t mine = lab::own_cores(), near = lab::cores_near(mine);
  for (const int core : numbers(mine)) EXPECT_TRUE(CPU_ISSET(core, &near)) << core;
  int found = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/devices/system/cpu")) {
    if (!std::regex_match(entry.path().filename().string(), std::regex("cpu[0-9]+"))) continue;
    const int core = std::stoi(entry.path().filename().string().substr(3));
    for (const auto& inside : std::filesystem::directory_iterator(entry)) {
      const std::string name = inside.path().filename();
      if (!std::regex_match(name, std::regex("node[0-9]+"))) continue;
      const cpu_set_t near_this = lab::cores_near(only(core));
      for (const int other : numbers(near_this))
        EXPECT_TRUE(std::filesystem::exists(lab::text("/sys/devices/system/cpu/cpu", other, "/", name)))
            << core << other;
      ++found;
    }
  }
  if (found == 0) GTEST_SKIP() << "this kernel tells of no NUMA nodes";
}

TEST(Cores, AParentsAreKnown) { EXPECT_FALSE(numbers(lab::cores_of_parent()).empty()); }

}  // namespace
