#include "lab/comm/world.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "comm/backends.h"
#include "comm/shared.h"
#include "group.h"
#include "lab/comm/agreement.h"
#include "unit/temporary_folder.h"

namespace lab {
namespace {

// On the last rank files may not grow beyond a few bytes: how a node refuses shared memory.
class LastRankRefuses {
 public:
  LastRankRefuses() {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit now{last() ? 4096 : before_.rlim_cur, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &now);
  }
  ~LastRankRefuses() { setrlimit(RLIMIT_FSIZE, &before_); }
  LastRankRefuses(const LastRankRefuses&) = delete;
  LastRankRefuses& operator=(const LastRankRefuses&) = delete;
  static bool last() { return test_group().rank() == test_group().size() - 1; }

 private:
  rlimit before_{};
};

// Every rank on a node of its own.
std::unique_ptr<Communicator> apart() {
  return shared_communicator(test_group().rank(), [](int color) { return mpi_communicator(color); });
}

void expect_sum(Communicator& comm, const Buffer& buffer) {
  auto* values = static_cast<float*>(buffer.data);
  std::fill_n(values, buffer.count, static_cast<float>(comm.rank() + 1));
  comm.all_reduce(buffer, ReduceOp::sum);
  const auto ranks = static_cast<float>(comm.size());
  for (int64_t i = 0; i < buffer.count; ++i) ASSERT_EQ(values[i], ranks * (ranks + 1) / 2) << i;
}

TEST(World, EachBackendSaysItsName) {
  const bool alone = test_world().size() == 1;
  const Log log = Log::silent();
  EXPECT_STREQ(test_world().communicator(Backend::automatic, log)->name(), alone ? "self" : "shared memory");
  EXPECT_STREQ(test_world().communicator(Backend::mpi, log)->name(), "mpi");
  EXPECT_STREQ(test_world().communicator(Backend::nccl, log)->name(), alone ? "self" : "shared memory");
  if (alone) return;
  EXPECT_THROW(test_world().communicator(Backend::self, log), UsageError);
}

// What on_device() refuses of rank `who` having this device, while the others have a CPU.
ExitCode refused(int who, const Device& device, Backend backend, const std::string& why) {
  auto group = test_world().communicator(backend, Log::silent());
  const bool mine = who < 0 || test_world().rank() == who;
  try {
    test_world().on_device(std::move(group), mine ? device : Device(), backend);
  } catch (const AgreedError& e) {
    EXPECT_NE(std::string(e.what()).find(why), std::string::npos) << e.what();
    return e.code();
  }
  return ExitCode::done;
}

TEST(World, GroupsOfCpusStayAsTheyAre) {
  auto group = test_world().communicator(Backend::automatic, Log::silent());
  const auto* before = group.get();
  EXPECT_EQ(test_world().on_device(std::move(group), {}, Backend::automatic).get(), before);
}

TEST(World, RefusesDevicesThatDoNotGoTogether) {
  const Device gpu{Device::Kind::cuda, 0, "GPU 0, made up", "cuda:0", "made up"};
  EXPECT_EQ(refused(-1, {}, Backend::nccl, "--backend nccl"), ExitCode::unavailable);
  if (test_world().size() == 1) return;
  EXPECT_EQ(refused(1, gpu, Backend::automatic, "rank 1 has a GPU, but rank"), ExitCode::bad_config);
  EXPECT_EQ(refused(-1, gpu, Backend::automatic, "ranks 0 and 1 of one node would share its GPU 0"),
            ExitCode::bad_config);
  Device own = gpu;
  own.identity = std::to_string(test_world().rank());
  EXPECT_EQ(refused(-1, own, Backend::mpi, "--backend mpi can't reach a GPU's memory"), ExitCode::bad_config);
}

TEST(World, ANodeThatRefusesSharedMemoryIsEveryonesErrorAndNamed) {
  const LastRankRefuses refusal;
  try {
    apart();
    FAIL() << "it was not refused";
  } catch (const AgreedError& e) {
    EXPECT_EQ(e.code(), ExitCode::unavailable);
    const std::string who = test_group().size() > 1 ? text("rank ", test_group().size() - 1, ": ") : "";
    EXPECT_EQ(std::string(e.what()).find(who + "shared memory of "), 0u) << e.what();
  }
}

TEST(World, MemoryThatOneNodeRefusesIsPlainOnAll) {
  const auto comm = apart();
  BufferMemory memory;
  {
    const LastRankRefuses refusal;
    memory = comm->allocate(800'000);
  }
  EXPECT_FALSE(memory.shared);
  expect_sum(*comm, {memory.data.get(), 200'000, DType::f32});
  EXPECT_TRUE(comm->allocate(800'000).shared);
}

TEST(World, RanksTalkByMpiWhereSharedMemoryIsRefusedAndThatIsSaidOnce) {
  if (test_world().size() == 1) GTEST_SKIP() << "a rank alone needs neither";
  std::vector<std::string> said;
  const test::TemporaryFolder folder;
  const Log log(test_world().rank(), test_world().size());
  log.also_to(folder / "log.txt", [&](const std::string&, const std::string& line) { said.push_back(line); });
  std::unique_ptr<Communicator> comm;
  {
    // The ranks of this test share a node, whose first rank asks for the memory.
    rlimit before{};
    getrlimit(RLIMIT_FSIZE, &before);
    const rlimit now{65536, before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &now);
    comm = test_world().communicator(Backend::automatic, log);
    setrlimit(RLIMIT_FSIZE, &before);
  }
  log.end_sink();
  EXPECT_STREQ(comm->name(), "mpi");
  std::vector<float> values(1000);
  expect_sum(*comm, {values.data(), 1000, DType::f32});
  ASSERT_EQ(said.size(), test_world().rank() == 0 ? 1u : 0u);
  for (const auto& line : said) EXPECT_NE(line.find("ranks talk by MPI alone"), std::string::npos) << line;
}

}  // namespace
}  // namespace lab
