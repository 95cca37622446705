// What NCCL's backend owes to those who train with it: sums beside the computation, errors that end
// everyone's wait.

#include <gmock/gmock.h>
#include <stdlib.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "comm/backends.h"
#include "lab/comm/agreement.h"
#include "lab/core/error.h"
#include "lab/device/stream.h"
#include "thread_ranks.h"

namespace lab::test {
namespace {

using testing::HasSubstr;

void on_nccl(int ranks, const std::function<void(Communicator&)>& body) {
  on_threads(ranks, [&](ThreadCommunicator& threads) {
    const auto comm = nccl_communicator(threads.split(0));
    body(*comm);
  });
}

// While it lives, NCCL's stand-in does as told.
class Told {
 public:
  Told(const char* variable, const char* value) : variable_(variable) { setenv(variable, value, 1); }
  ~Told() { unsetenv(variable_); }

 private:
  const char* variable_;
};
class WithFault : Told {
 public:
  explicit WithFault(const char* fault) : Told("NCCL_STAND_IN_FAULT", fault) {}
};

// Buckets of one allocation, as the reducer has them.
class Buckets {
 public:
  Buckets(Communicator& comm, int64_t count, int64_t size)
      : memory_(comm.allocate(count * size * 4)), size_(size), count_(count) {}
  Buffer bucket(int64_t b) const {
    return Buffer{memory_.data.get(), count_ * size_, DType::f32}.slice(b * size_, size_);
  }
  float* values(int64_t b) const { return static_cast<float*>(bucket(b).data); }
  void fill(int64_t b, float value) const { std::fill_n(values(b), size_, value); }
  bool holds(int64_t b, float value) const {
    return std::all_of(values(b), values(b) + size_, [&](float v) { return v == value; });
  }

 private:
  BufferMemory memory_;
  int64_t size_, count_;
};

TEST(Nccl, SumsGoOnWhileTheOwnerComputes) {
  on_nccl(3, [](Communicator& comm) {
    constexpr int64_t count = 4, size = 5000;
    for (int step = 0; step < 20; ++step) {
      const Buckets buckets(comm, count, size);
      ASSERT_TRUE(on_device(buckets.bucket(0).data));
      std::vector<Ticket> tickets;
      for (int64_t b = 0; b < count; ++b) {
        buckets.fill(b, static_cast<float>(comm.rank() + b));
        tickets.push_back(comm.submit([&, b] { comm.all_reduce(buckets.bucket(b), ReduceOp::sum); }));
      }
      for (int64_t b = 0; b < count; ++b) {
        tickets[static_cast<size_t>(b)].wait();
        EXPECT_TRUE(buckets.holds(b, static_cast<float>(3 + 3 * b))) << "bucket " << b << " of step " << step;
      }
      buckets.fill(0, 1);  // directly, after submitted work
      comm.all_reduce(buckets.bucket(0), ReduceOp::max);
      EXPECT_TRUE(buckets.holds(0, 1));
    }
  });
}

TEST(Nccl, WhoWaitsHasWaitedForWhatALinkTakes) {
  const Told cost("NCCL_STAND_IN_COST", "0.01,2e6");  // 20 ms for each bucket below
  on_nccl(2, [](Communicator& comm) {
    constexpr int64_t count = 3, size = 5000;
    const Buckets buckets(comm, count, size);
    const auto start = std::chrono::steady_clock::now();
    std::vector<Ticket> tickets;
    for (int64_t b = 0; b < count; ++b) {
      buckets.fill(b, 1);
      tickets.push_back(comm.submit([&, b] { comm.all_reduce(buckets.bucket(b), ReduceOp::sum); }));
    }
    for (const Ticket& ticket : tickets) ticket.wait();
    EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(60));
    for (int64_t b = 0; b < count; ++b) EXPECT_TRUE(buckets.holds(b, 2)) << b;
  });
}

TEST(Nccl, WhatIsExchangedWithinSubmittedWorkMayBeUsedThere) {
  on_nccl(3, [](Communicator& comm) {
    const Buckets mine(comm, 1, 3000), theirs(comm, 1, 3000);
    const int next = (comm.rank() + 1) % 3, before = (comm.rank() + 2) % 3;
    for (int round = 0; round < 10; ++round) {
      mine.fill(0, static_cast<float>(comm.rank() + round));
      comm.submit([&] {
            const Message send{next, mine.bucket(0)}, receive{before, theirs.bucket(0)};
            comm.exchange({&send, 1}, {&receive, 1});
            EXPECT_TRUE(theirs.holds(0, static_cast<float>(before + round)));
          })
          .wait();
    }
  });
}

// One rank has neither to send nor to receive, and must not be waited for, nor wait.
TEST(Nccl, AnExchangeThatPassesARankBy) {
  on_nccl(3, [](Communicator& comm) {
    const Buckets values(comm, 1, 100);
    values.fill(0, static_cast<float>(comm.rank()));
    std::vector<Message> sends, receives;
    if (comm.rank() == 0) sends.push_back({2, values.bucket(0)});
    if (comm.rank() == 2) receives.push_back({0, values.bucket(0)});
    comm.exchange(sends, receives);
    EXPECT_TRUE(values.holds(0, comm.rank() == 2 ? 0.0F : static_cast<float>(comm.rank())));
  });
}

// Each operation until one throws; what it says.
std::string first_error(Communicator& comm, bool by_ticket) {
  try {
    for (int i = 0; i < 200; ++i) {
      const Buckets values(comm, 1, 1000);
      values.fill(0, 1);
      const auto sum = [&] { comm.all_reduce(values.bucket(0), ReduceOp::sum); };
      if (by_ticket)
        comm.submit(sum).wait();
      else
        sum();
      if (!by_ticket) comm.barrier();
    }
  } catch (const IoError& error) {
    return error.what();
  }
  return "";
}

TEST(Nccl, ACallThatFailsSaysWhichOnWhichRank) {
  const WithFault fault("error@3,rank=0");
  on_nccl(1, [](Communicator& comm) {
    EXPECT_THAT(first_error(comm, false), testing::AllOf(HasSubstr("all-reduce (sum) of 1000 f32 on rank 0"),
                                                         HasSubstr("a fault that was asked for")));
    EXPECT_THROW(comm.barrier(), IoError) << "the group is not to be used any more";
  });
}

TEST(Nccl, AnErrorBehindTheCallersBackIsSeenByWhoWaits) {
  const WithFault fault("async_error@3");
  on_nccl(1, [](Communicator& comm) {
    const Buckets values(comm, 1, 1000);
    const auto summed = [&] {
      comm.submit([&] { comm.all_reduce(values.bucket(0), ReduceOp::sum); }).wait();
    };
    summed();
    summed();
    EXPECT_THROW(summed(), IoError);
    int64_t number = 0;
    EXPECT_THROW(comm.all_reduce({&number, 1, DType::i64}, ReduceOp::sum), IoError);
  });
}

// The others' sums can't end, and must not be waited for. Submitted work alone: no other call tells of the
// end.
TEST(Nccl, OneRanksErrorEndsTheOthersWait) {
  for (const char* words : {"async_error@5,rank=1", "error@5,rank=1"}) {
    const WithFault fault(words);
    on_nccl(3, [](Communicator& comm) {
      EXPECT_THAT(first_error(comm, true), HasSubstr("NCCL failed in or before"));
    });
  }
}

// Who failed asks NCCL for nothing more: only the thread that looks for errors can tell.
TEST(Nccl, TheOthersWaitEndsAlsoWhileTheRankThatFailedComputes) {
  const WithFault fault("async_error@1,rank=1");
  std::atomic<int> released = 0;
  on_nccl(3, [&](Communicator& comm) {
    const Buckets values(comm, 1, 1000);
    const auto ticket = comm.submit([&] { comm.all_reduce(values.bucket(0), ReduceOp::sum); });
    for (int i = 0; i < 2000 && comm.rank() == 1 && released < 2; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_TRUE(comm.rank() != 1 || released == 2) << "the others still wait";
    EXPECT_THROW(ticket.wait(), IoError);
    ++released;
  });
}

TEST(Nccl, WhereOneRankCantBeginNobodyDoes) {
  const WithFault fault("init_error,rank=1");
  on_threads(3, [](ThreadCommunicator& threads) {
    try {
      nccl_communicator(threads.split(0));
      ADD_FAILURE() << "rank " << threads.rank() << " has a group";
    } catch (const AgreedError& error) {
      EXPECT_EQ(error.code(), ExitCode::unavailable);
      EXPECT_THAT(error.what(), testing::AllOf(HasSubstr("rank 1"), HasSubstr("a fault that was asked for")));
    }
  });
}

}  // namespace
}  // namespace lab::test
