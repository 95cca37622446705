// Ranks that call different collectives over MPI: all of them are told so, and no data is touched.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "comm/backends.h"
#include "group.h"
#include "lab/core/error.h"
#include "lab/core/text.h"

namespace lab {
namespace {

using testing::StartsWith;

// What a rank calls, on memory of its own, and how that is said.
struct Asked {
  std::function<void(Communicator&, void*)> call;
  std::string words;
};

Asked all_reduce(int64_t count, DType type, ReduceOp op, const std::string& words) {
  return {[=](Communicator& comm, void* data) { comm.all_reduce({data, count, type}, op); }, words};
}
Asked broadcast(int root, const std::string& words) {
  return {[=](Communicator& comm, void* data) { comm.broadcast({data, 12, DType::f32}, root); }, words};
}
Asked all_gather() {
  const int64_t count = 12 * test_group().size();
  return {[=](Communicator& comm, void* data) {
            comm.all_gather({data, count, DType::f32});
          },
          text("all-gather of ", count, " f32")};
}
Asked exchange() {
  return {[](Communicator& comm, void*) { comm.exchange({}, {}); }, "exchange"};
}
Asked barrier() {
  return {[](Communicator& comm, void*) { comm.barrier(); }, "barrier"};
}

Asked sum() { return all_reduce(12, DType::f32, ReduceOp::sum, "all-reduce (sum) of 12 f32"); }

void expect_sum(Communicator& comm) {
  int64_t value = comm.rank() + 1;
  comm.all_reduce({&value, 1, DType::i64}, ReduceOp::sum);
  EXPECT_EQ(value, comm.size() * (comm.size() + 1) / 2);
}

// What the Disagreement says; "" without one.
std::string said(Communicator& comm, const Asked& asked) {
  std::vector<double> room(12 * static_cast<size_t>(test_group().size()), 7);
  const std::vector<double> before = room;
  try {
    asked.call(comm, room.data());
  } catch (const Disagreement& e) {
    EXPECT_EQ(room, before) << "data has moved";
    return e.what();
  }
  return "";
}

struct Mistake {
  Asked usual, wrong;
};

// On the culprit and on all others, in a new group each time.
void expect_told(int culprit, const Mistake& mistake) {
  SCOPED_TRACE(text(mistake.wrong.words, " on rank ", culprit));
  const int me = test_group().rank(), first_other = culprit == 0 ? 1 : 0;
  const auto comm = mpi_communicator();
  expect_sum(*comm);
  const bool wrong = me == culprit;
  const Asked &mine = wrong ? mistake.wrong : mistake.usual, &theirs = wrong ? mistake.usual : mistake.wrong;
  EXPECT_THAT(said(*comm, mine),
              StartsWith(text("rank ", wrong ? first_other : culprit, " is in ", theirs.words, " where rank ",
                              me, " is in ", mine.words, "; ")));
}

TEST(MpiDisagreement, EveryRankIsToldWhoCallsWhat) {
  if (test_group().size() == 1) GTEST_SKIP() << "a rank alone agrees with itself";
  const std::vector<Mistake> mistakes = {
      {sum(), broadcast(0, "broadcast from 0 of 12 f32")},
      {sum(), all_gather()},
      {sum(), exchange()},
      {sum(), barrier()},
      {sum(), all_reduce(12, DType::f64, ReduceOp::sum, "all-reduce (sum) of 12 f64")},
      {sum(), all_reduce(12, DType::f32, ReduceOp::max, "all-reduce (max) of 12 f32")},
      {sum(), all_reduce(11, DType::f32, ReduceOp::sum, "all-reduce (sum) of 11 f32")},
      {broadcast(0, "broadcast from 0 of 12 f32"), broadcast(1, "broadcast from 1 of 12 f32")},
      {exchange(), barrier()},
  };
  for (const int culprit : {0, test_group().size() - 1})
    for (const Mistake& mistake : mistakes) expect_told(culprit, mistake);
  expect_sum(*mpi_communicator());
  expect_sum(test_group());
}

TEST(MpiDisagreement, WhoAllocatesAloneIsToldAtTheNextCollective) {
  if (test_group().size() == 1) GTEST_SKIP() << "a rank alone agrees with itself";
  const int culprit = test_group().size() - 1, me = test_group().rank();
  const auto comm = mpi_communicator();
  const bool wrong = me == culprit;
  if (wrong) comm->allocate(64);
  EXPECT_THAT(said(*comm, barrier()),
              StartsWith(text("rank ", wrong ? 0 : culprit, " is in barrier as collective ", wrong ? 1 : 2,
                              " where rank ", me, " is in barrier as collective ", wrong ? 2 : 1, "; ")));
}

// Rank 0 is a group of its own, all others are one.
TEST(MpiDisagreement, IsThatOfItsGroupWhoseRanksAreNamedAsInTheJob) {
  const int me = test_group().rank(), culprit = test_group().size() - 1;
  const auto comm = mpi_communicator(me > 0);
  const std::string words = said(*comm, me == culprit ? barrier() : sum());
  if (comm->size() == 1)
    EXPECT_EQ(words, "");
  else
    EXPECT_THAT(words,
                StartsWith(me == culprit ? text("rank 1 is in all-reduce (sum) of 12 f32 where rank ", me)
                                         : text("rank ", culprit, " is in barrier where rank ", me)));
}

}  // namespace
}  // namespace lab
