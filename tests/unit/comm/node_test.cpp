#include "comm/node.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <numeric>
#include <thread>

#include "lab/core/error.h"
#include "lab/core/other_process.h"

namespace lab {
namespace {

using testing::HasSubstr;

std::shared_ptr<SharedSegment> memory_for(int ranks) {
  auto memory = SharedSegment::make(Node::bytes(ranks));
  Node::prepare(*memory, ranks);
  for (int r = 0; r < ranks; ++r) Node::reserve(*memory, r, ranks);
  return memory;
}

std::vector<int> names_of(int ranks) {
  std::vector<int> names(static_cast<size_t>(ranks));
  std::iota(names.begin(), names.end(), 10);
  return names;
}

// Every rank with a hand of its own on one memory; `cores` decides how they wait.
void on_node(int ranks, int cores, const std::function<void(Node&)>& body) {
  const auto memory = memory_for(ranks);
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r)
    threads.emplace_back([&, r] {
      Node node(memory, r, names_of(ranks), cores);
      body(node);
    });
  for (auto& thread : threads) thread.join();
}

// What was written before a meeting is read after it, and a slot stays as it is until the next one is over.
// There are more meetings than turns are left before the count passes 2^32.
void sees_all_slots(Node& node) {
  for (int64_t turn = 0; turn < 400; ++turn) {
    const int64_t mine = turn * 100 + node.rank();
    std::memcpy(node.own_slot(), &mine, sizeof mine);
    if (turn % node.size() == node.rank()) std::memcpy(node.next_board(), &turn, sizeof turn);
    if (turn % 7 == node.rank()) std::this_thread::sleep_for(std::chrono::microseconds(200));
    node.meet({.count = turn});
    int64_t board = 0;
    std::memcpy(&board, node.board(), sizeof board);
    EXPECT_EQ(board, turn);
    for (int r = 0; r < node.size(); ++r) {
      int64_t theirs = 0;
      std::memcpy(&theirs, node.slot(r), sizeof theirs);
      EXPECT_EQ(theirs, turn * 100 + r);
    }
  }
}

TEST(Node, AMeetingShowsEverySlot) {
  on_node(1, 2, sees_all_slots);
  on_node(2, 2, sees_all_slots);
  on_node(5, 2, sees_all_slots);
}

TEST(Node, RanksThatMeetForDifferentThingsAreTold) {
  on_node(3, 8, [](Node& node) {
    node.meet({.kind = Collective::barrier});
    try {
      if (node.rank() == 1)
        node.meet({.kind = Collective::broadcast, .type = DType::u8, .root = 2, .count = 5});
      else
        node.meet({.kind = Collective::all_reduce, .type = DType::f32, .op = ReduceOp::max, .count = 12});
      ADD_FAILURE() << "rank " << node.rank() << " was not told";
    } catch (const Disagreement& e) {
      EXPECT_THAT(e.what(), HasSubstr("all-reduce (max) of 12 f32"));
      EXPECT_THAT(e.what(), HasSubstr("broadcast from 2 of 5 u8"));
      EXPECT_THAT(e.what(), HasSubstr("rank 11 is in "));
    }
  });
}

TEST(Node, EachDifferenceCounts) {
  const Call like{Collective::all_reduce, DType::f32, ReduceOp::sum, 0, 12};
  for (const Call& other : {Call{Collective::all_gather, DType::f32, ReduceOp::sum, 0, 12},
                            Call{Collective::all_reduce, DType::f64, ReduceOp::sum, 0, 12},
                            Call{Collective::all_reduce, DType::f32, ReduceOp::min, 0, 12},
                            Call{Collective::all_reduce, DType::f32, ReduceOp::sum, 1, 12},
                            Call{Collective::all_reduce, DType::f32, ReduceOp::sum, 0, 13}})
    on_node(2, 8,
            [&](Node& node) { EXPECT_THROW(node.meet(node.rank() == 0 ? like : other), Disagreement); });
}

// The others cannot know; they must not take the cores from who ends the job, or from anyone else.
TEST(Node, WhoWaitsForADeadRankSleeps) {
  const auto memory = memory_for(3);
  std::vector<pid_t> ranks;
  for (int r = 0; r < 3; ++r) {
    ranks.push_back(fork());
    if (ranks.back() != 0) continue;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    Node node(memory, r, names_of(3), 8);
    for (int turn = 0;; ++turn) {
      if (turn == 300 && r == 1) raise(SIGKILL);
      node.meet({});
    }
  }
  int status = 0;
  waitpid(ranks[1], &status, 0);
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
  int asleep = 0;
  for (int look = 0; look < 40; ++look) {
    std::this_thread::sleep_for(std::chrono::milliseconds(25));
    const auto first = process_stat(ranks[0]), last = process_stat(ranks[2]);
    asleep = first && last && first->state == 'S' && last->state == 'S' ? asleep + 1 : 0;
    if (asleep == 10) break;  // in a row
  }
  EXPECT_EQ(asleep, 10);
  for (const int r : {0, 2}) {
    kill(ranks[static_cast<size_t>(r)], SIGKILL);
    waitpid(ranks[static_cast<size_t>(r)], &status, 0);
  }
}

}  // namespace
}  // namespace lab
