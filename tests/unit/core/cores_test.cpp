#include "lab/core/cores.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

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

TEST(Cores, AParentsAreKnown) { EXPECT_FALSE(numbers(lab::cores_of_parent()).empty()); }

}  // namespace
