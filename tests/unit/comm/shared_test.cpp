#include "comm/shared.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <optional>

#include "lab/comm/agreement.h"
#include "thread_ranks.h"

namespace lab::test {
namespace {

using testing::HasSubstr;

// As many bytes as files may have, for as long as it lives: how a system refuses shared memory.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit now{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &now);
  }
  ~FileSizeLimit() { setrlimit(RLIMIT_FSIZE, &before_); }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
};

void on_one_node(int ranks, const std::function<void(Communicator&)>& body) {
  on_threads(ranks, [&](ThreadCommunicator& threads) {
    body(*shared_communicator(0, [&](int color) { return threads.split(color); }));
  });
}

TEST(Shared, SumsGoThroughTheRanksInOrderWhereverTheBuffersLie) {
  const auto value = [](int rank, int64_t i) {
    return static_cast<float>(i % 1013) / static_cast<float>(1 + rank * 89) + 1e-3F;
  };
  on_one_node(4, [&](Communicator& comm) {
    for (const int64_t n : {100, 5000, 200'000})
      for (const bool inside : {true, false}) {
        const auto memory = inside ? comm.allocate(n * 4) : plain_memory(n * 4);
        EXPECT_EQ(memory.shared, inside);
        auto* values = reinterpret_cast<float*>(memory.data.get());
        for (int64_t i = 0; i < n; ++i) values[i] = value(comm.rank(), i);
        comm.all_reduce({values, n, DType::f32}, ReduceOp::sum);
        for (int64_t i = 0; i < n; ++i)
          ASSERT_EQ(values[i], value(0, i) + value(1, i) + value(2, i) + value(3, i)) << n << ' ' << i;
      }
  });
}

TEST(Shared, AViewShowsBuffersOfOneAllocationOnly) {
  on_one_node(2, [](Communicator& comm) {
    const auto one = comm.allocate(1000), other = comm.allocate(1000);
    const Buffer first{one.data.get(), 10, DType::i64}, behind{one.data.get() + 800, 10, DType::i64},
        elsewhere{other.data.get(), 10, DType::i64};
    std::array<int64_t, 10> numbers{};
    const Buffer outside{numbers.data(), 10, DType::i64};
    static_cast<int64_t*>(behind.data)[9] = comm.rank() + 5;

    const std::vector<Buffer> two = {first, behind};
    const auto seen = comm.view(comm.rank() == 0 ? std::span(two) : std::span(two).subspan(1));
    ASSERT_EQ(seen.size(), 2u);
    ASSERT_EQ(seen[0].size(), 2u);
    ASSERT_EQ(seen[1].size(), 1u);
    EXPECT_EQ(static_cast<int64_t*>(seen[0][1].data)[9], 5);
    EXPECT_EQ(static_cast<int64_t*>(seen[1][0].data)[9], 6);
    EXPECT_EQ(seen[static_cast<size_t>(comm.rank())].back().data, behind.data);
    comm.barrier();

    for (const auto& mine : {std::vector<Buffer>{first, elsewhere}, std::vector<Buffer>{outside, outside},
                             std::vector<Buffer>{comm.rank() == 0 ? first : elsewhere},
                             std::vector<Buffer>{comm.rank() == 0 ? first : outside}, std::vector<Buffer>{}})
      EXPECT_TRUE(comm.view(mine).empty());
  });
}

TEST(Shared, MemoryThatIsRefusedIsPlainOnEveryRank) {
  std::atomic<int> wrong = 0;
  on_one_node(3, [&](Communicator& comm) {
    std::optional<FileSizeLimit> limit;
    if (comm.rank() == 0) limit.emplace(1 << 20);  // threads share it
    comm.barrier();
    const auto memory = comm.allocate(4 << 20);
    comm.barrier();
    limit.reset();
    const Buffer buffer{memory.data.get(), 1 << 20, DType::f32};
    std::fill_n(static_cast<float*>(buffer.data), buffer.count, 2.0F);
    comm.all_reduce(buffer, ReduceOp::sum);
    wrong += memory.shared + (static_cast<float*>(buffer.data)[buffer.count - 1] != 6.0F);
  });
  EXPECT_EQ(wrong, 0);
}

TEST(Shared, ANodeThatRefusesIsEveryonesError) {
  const FileSizeLimit limit(4096);
  std::atomic<int> told = 0;
  on_threads(3, [&](ThreadCommunicator& threads) {
    try {
      shared_communicator(threads.rank() / 2, [&](int color) { return threads.split(color); });
    } catch (const AgreedError& e) {
      EXPECT_EQ(e.code(), ExitCode::unavailable);
      EXPECT_THAT(e.what(), HasSubstr("ulimit"));
      told += 1;
    }
  });
  EXPECT_EQ(told, 3);
}

TEST(Shared, AMessageThatNobodyWaitsForIsRefused) {
  on_one_node(2, [](Communicator& comm) {
    std::array<int64_t, 2> numbers{};
    const Message message{1 - comm.rank(), {numbers.data(), 2, DType::i64}};
    const Message shorter{1 - comm.rank(), {numbers.data(), 1, DType::i64}};
    if (comm.rank() == 0)
      EXPECT_THROW(comm.exchange({}, {&message, 1}), Disagreement) << "waits for what nobody sends";
    else
      comm.exchange({}, {});
    EXPECT_THROW(comm.exchange({&message, 1}, {&shorter, 1}), Disagreement) << "more than is waited for";
  });
}

}  // namespace
}  // namespace lab::test
