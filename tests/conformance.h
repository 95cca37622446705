#pragma once
// What every backend must do. A program instantiates the suite for the backends that it can run.

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <functional>
#include <numeric>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "conformance_values.h"
#include "lab/comm/agreement.h"
#include "lab/comm/communicator.h"
#include "lab/comm/tree.h"
#include "lab/core/error.h"
#include "lab/core/random.h"
#include "lab/core/range.h"

namespace lab::test {

struct Ranks {
  Communicator& comm;
  std::function<std::unique_ptr<Communicator>()> another;  // group of the same ranks; all must call
  std::function<int(int rank)> node_of = [](int rank) { return rank; };  // as the backend sees it
};

struct Backend {
  std::string name;
  // Runs the body on every rank that this process has a hand on.
  std::function<void(const std::function<void(Ranks&)>& body)> run;
};
inline void PrintTo(const Backend& backend, std::ostream* out) { *out << backend.name; }

template <class T>
void reduces(Communicator& comm, ReduceOp op, int64_t count, Where where) {
  Values<T> values(comm, count, where);
  for (int64_t i = 0; i < count; ++i) values[i] = whole<T>(comm.rank(), i);
  comm.all_reduce(values.buffer(), op);
  values.expect(
      [&](int64_t i) { return over_ranks<T>(op, comm.size(), [i](int r) { return whole<T>(r, i); }); },
      text("all_reduce ", static_cast<int>(op), " where ", static_cast<int>(where)));
}

template <class T>
void reduces_all_ways(Communicator& comm) {
  for (const Where where : {Where::inside, Where::inside_further, Where::outside}) {
    for (const int64_t count : counts<T>()) reduces<T>(comm, ReduceOp::sum, count, where);
    for (const ReduceOp op : {ReduceOp::min, ReduceOp::max})
      for (const int64_t count : {5, 5000}) reduces<T>(comm, op, count, where);
  }
}

template <class T>
void sums_alike(Communicator& comm) {
  for (const Where where : {Where::inside, Where::outside})
    for (const int64_t n : counts<T>()) {
      std::vector<uint64_t> hashes;
      for (int round = 0; round < 2; ++round) {
        Values<T> values(comm, n, where);
        for (int64_t i = 0; i < n; ++i) values[i] = rough<T>(comm.rank(), i);
        comm.all_reduce(values.buffer(), ReduceOp::sum);
        hashes.push_back(hash_of(values.buffer()));
      }
      EXPECT_EQ(hashes[0], hashes[1]) << "the second run gave other bits than the first";
      require_equal(comm, {"sum", text(hashes[0])});
    }
}

// The sum of one node of a tree over leaves of rough numbers.
template <class T>
T leaf_sum(TreeNode node, int64_t i) {
  if (node.level == 0) return rough<T>(static_cast<int>(node.index), i);
  return leaf_sum<T>({node.level - 1, node.index * 2}, i) +
         leaf_sum<T>({node.level - 1, node.index * 2 + 1}, i);
}

// With all partial sums of a rank in one stretch of memory.
template <class T>
void sums_by_tree(Communicator& comm, int64_t leaves, Where where) {
  BufferMemory scratch;
  for (const int64_t n : {0, 1, 5, 1000, 3000}) {
    const Range held = shard(leaves, comm.rank(), comm.size());
    const auto nodes = tree_cover(held.first, held.count);
    const int64_t stride = n + 64;
    Values<T> values(comm, stride * 8, where);
    std::vector<Buffer> partials;
    for (const TreeNode node : nodes) {
      const int64_t first = static_cast<int64_t>(partials.size()) * stride;
      for (int64_t i = 0; i < n; ++i) values[first + i] = leaf_sum<T>(node, i);
      partials.push_back(values.buffer().slice(first, n));
    }
    tree_all_reduce(comm, leaves, partials, scratch);
    const TreeNode root{std::countr_zero(static_cast<uint64_t>(leaves)), 0};
    for (int64_t k = 0; k < static_cast<int64_t>(nodes.size()); ++k)
      for (int64_t i = 0; i < n; ++i)
        if (const T wanted = leaf_sum<T>(k == 0 ? root : nodes[static_cast<size_t>(k)], i);
            std::memcmp(&values[k * stride + i], &wanted, sizeof(T)) != 0) {
          ADD_FAILURE() << "partial " << k << " of " << leaves << " leaves, element " << i << " of " << n;
          break;
        }
  }
}

// Operations that are drawn alike on every rank, on buffers here and there in one stretch of memory.
class RandomOperations {
 public:
  RandomOperations(Communicator& comm, uint64_t seed)
      : comm_(comm),
        rng_(seed, Purpose::user, 0),
        salt_(seed),
        inside_(comm.allocate(room)),
        outside_(plain_memory(room)) {}

  void run(int count) {
    for (int i = 0; i < count; ++i, ++salt_) {
      const auto type = rng_.integer(0, 3);
      if (type == 0) one<uint8_t>();
      if (type == 1) one<int64_t>();
      if (type == 2) one<float>();
      if (type == 3) one<double>();
    }
  }

 private:
  static constexpr int64_t room = 2 << 20;

  // Mostly few elements; all ranks' parts have room.
  Buffer some_buffer(DType type, int64_t parts) {
    const auto bits = rng_.integer(0, rng_.integer(0, 20) == 0 ? 16 : 10);
    const int64_t count = std::min(rng_.integer(0, int64_t{1} << bits), room / 8 / parts) * parts;
    const int64_t offset = rng_.integer(0, (room - count * size_of(type)) / 8) * 8;
    const auto& memory = rng_.integer(0, 2) == 0 ? outside_ : inside_;
    return {memory.data.get() + offset, count, type};
  }

  template <class T>
  void one() {
    const int ranks = comm_.size(), me = comm_.rank();
    const auto kind = rng_.integer(0, std::is_same_v<T, float> ? 5 : 4);
    const auto op = static_cast<ReduceOp>(rng_.integer(0, 2));
    const auto root = static_cast<int>(rng_.integer(0, ranks - 1));
    const Buffer buffer = some_buffer(type_of<T>, kind == 2 ? ranks : 1);
    const int64_t part = buffer.count / ranks;
    auto* values = static_cast<T*>(buffer.data);
    for (int64_t i = 0; i < buffer.count; ++i) values[i] = whole<T>(me, i, salt_);
    if (kind == 0) comm_.all_reduce(buffer, op);
    if (kind == 1) comm_.broadcast(buffer, root);
    if (kind == 2) comm_.all_gather(buffer);
    if (kind == 3 && ranks > 1) pass_on(buffer);
    if (kind == 4) comm_.barrier();
    if (kind == 5) comm_.all_reduce_bf16(buffer);
    const auto wanted = [&](int64_t i) {
      if (kind == 0) return over_ranks<T>(op, ranks, [&](int r) { return whole<T>(r, i, salt_); });
      if (kind == 1) return whole<T>(root, i, salt_);
      if (kind == 2) return whole<T>(static_cast<int>(i / part), i, salt_);
      if (kind == 3 && ranks > 1) return whole<T>((me + ranks - 1) % ranks, i, salt_);
      if (kind == 5) return over_ranks<T>(ReduceOp::sum, ranks, [&](int r) { return whole<T>(r, i, salt_); });
      return whole<T>(me, i, salt_);
    };
    for (int64_t i = 0; i < buffer.count; ++i)
      if (values[i] != wanted(i)) {
        ADD_FAILURE() << "operation " << salt_ << " of kind " << kind << ", element " << i << " of "
                      << buffer.count;
        return;
      }
  }

  void pass_on(const Buffer& buffer) {
    const int ranks = comm_.size(), me = comm_.rank();
    const BufferMemory got =
        is_inside(buffer) ? comm_.allocate(buffer.bytes()) : plain_memory(buffer.bytes());
    const Message send{(me + 1) % ranks, buffer};
    const Message receive{(me + ranks - 1) % ranks, {got.data.get(), buffer.count, buffer.type}};
    comm_.exchange({&send, 1}, {&receive, 1});
    std::memcpy(buffer.data, got.data.get(), static_cast<size_t>(buffer.bytes()));
  }

  bool is_inside(const Buffer& buffer) const {
    const auto* first = static_cast<const std::byte*>(buffer.data);
    return first >= inside_.data.get() && first < inside_.data.get() + inside_.bytes;
  }

  Communicator& comm_;
  Rng rng_;
  uint64_t salt_;
  BufferMemory inside_, outside_;
};

class Conformance : public testing::TestWithParam<Backend> {
 public:
  static std::string name_of(const testing::TestParamInfo<Backend>& info) { return info.param.name; }
};

TEST_P(Conformance, AllReduceOfEveryTypeAndSizeWhereverItLies) {
  GetParam().run([](Ranks& ranks) {
    reduces_all_ways<uint8_t>(ranks.comm);
    reduces_all_ways<int64_t>(ranks.comm);
    reduces_all_ways<float>(ranks.comm);
    reduces_all_ways<double>(ranks.comm);
  });
}

TEST_P(Conformance, SumsHaveTheSameBitsOnEveryRankAndInEveryRun) {
  GetParam().run([](Ranks& ranks) {
    sums_alike<float>(ranks.comm);
    sums_alike<double>(ranks.comm);
  });
}

TEST_P(Conformance, TheFixedTreeHasTheSameBitsWhereverItIsSummed) {
  GetParam().run([](Ranks& ranks) {
    for (const int64_t leaves : {8, 32})
      for (const Where where : {Where::inside, Where::outside}) {
        if (where == Where::outside && std::string(ranks.comm.name()) == "nccl") continue;
        sums_by_tree<float>(ranks.comm, leaves, where);
        sums_by_tree<double>(ranks.comm, leaves, where);
      }
  });
}

TEST_P(Conformance, BroadcastFromEveryRank) {
  GetParam().run([](Ranks& ranks) {
    auto& comm = ranks.comm;
    for (int root = 0; root < comm.size(); ++root)
      for (const Where where : {Where::inside, Where::outside})
        for (const int64_t n : counts<float>()) {
          Values<float> values(comm, n, where);
          for (int64_t i = 0; i < n; ++i) values[i] = whole<float>(comm.rank(), i);
          comm.broadcast(values.buffer(), root);
          values.expect([root](int64_t i) { return whole<float>(root, i); }, "broadcast");
        }
  });
}

TEST_P(Conformance, AllGatherBringsEachRanksPart) {
  GetParam().run([](Ranks& ranks) {
    auto& comm = ranks.comm;
    for (const Where where : {Where::inside, Where::outside})
      for (const int64_t n : counts<int64_t>()) {
        Values<int64_t> values(comm, n * comm.size(), where);
        for (int64_t i = 0; i < n; ++i) values[comm.rank() * n + i] = comm.rank() * 1'000'000 + i;
        comm.all_gather(values.buffer());
        values.expect([n](int64_t i) { return i / n * 1'000'000 + i % n; }, "all_gather");
      }
  });
}

// Every rank sends two messages to every other one, of sizes that differ, but the last rank sends none.
TEST_P(Conformance, ExchangeDeliversInOrderBetweenAllPairs) {
  GetParam().run([](Ranks& ranks) {
    auto& comm = ranks.comm;
    const int size = comm.size(), me = comm.rank(), silent = size - 1;
    const auto bytes = [](int from, int to, int k) { return (from * 7 + to * 3) * 20'011 + k * 5; };
    const auto letter = [](int from, int to, int k) { return static_cast<uint8_t>(from * 16 + to * 4 + k); };
    std::vector<std::vector<uint8_t>> out, in;
    std::vector<Message> sends, receives;
    for (int other = 0; other < size; ++other)
      for (int k = 0; k < 2 && other != me; ++k) {
        out.emplace_back(bytes(me, other, k), letter(me, other, k));
        in.emplace_back(bytes(other, me, k));
        if (me != silent) sends.push_back({other, {out.back().data(), bytes(me, other, k), DType::u8}});
        if (other != silent) receives.push_back({other, {in.back().data(), bytes(other, me, k), DType::u8}});
      }
    comm.exchange(sends, receives);
    for (size_t i = 0, next = 0; i < receives.size(); ++i, ++next) {
      const int k = static_cast<int>(i % 2), from = receives[i].peer;
      const std::vector<uint8_t> wanted(bytes(from, me, k), letter(from, me, k));
      const auto* got = static_cast<const uint8_t*>(receives[i].buffer.data);
      EXPECT_TRUE(std::equal(wanted.begin(), wanted.end(), got)) << "message " << k << " from " << from;
    }
  });
}

TEST_P(Conformance, NobodyPassesABarrierBeforeAllHaveCome) {
  GetParam().run([](Ranks& ranks) {
    auto& comm = ranks.comm;
    Values<int64_t> values(comm, 16, Where::inside);
    for (int64_t round = 1; round <= 50; ++round) {
      const Buffer own = values.buffer();
      values[0] = round;
      const auto seen = comm.view({&own, 1});
      if (seen.empty()) comm.barrier();  // there is nothing to look at, but it must end
      for (const auto& theirs : seen) EXPECT_EQ(static_cast<int64_t*>(theirs.at(0).data)[0], round);
      if (!seen.empty()) {
        static_cast<int64_t*>(seen[static_cast<size_t>((comm.rank() + 1) % comm.size())][0].data)[1] =
            round * 3;
        comm.barrier();
      }
      EXPECT_TRUE(seen.empty() || values[1] == round * 3) << "what a neighbour wrote before the barrier";
    }
  });
}

TEST_P(Conformance, WorkOfTheLaneRunsInTheOrderOfSubmission) {
  GetParam().run([](Ranks& ranks) {
    auto& comm = ranks.comm;
    std::vector<int> order;
    std::vector<Ticket> tickets;
    for (int i = 0; i < 50; ++i)
      tickets.push_back(comm.submit([&, i] {
        int64_t number = i;
        comm.all_reduce({&number, 1, DType::i64}, ReduceOp::sum);
        EXPECT_EQ(number, i * comm.size());
        order.push_back(i);
      }));
    for (const auto& ticket : tickets) ticket.wait();
    std::vector<int> expected(50);
    std::iota(expected.begin(), expected.end(), 0);
    EXPECT_EQ(order, expected);
  });
}

TEST_P(Conformance, AThousandRandomOperations) {
  GetParam().run([](Ranks& ranks) {
    RandomOperations operations(ranks.comm, 11);
    operations.run(500);
    if (std::string(ranks.comm.name()) == "nccl")
      return;  // submitted sums are not to be looked at before wait()
    ranks.comm.submit([&] { operations.run(500); }).wait();
  });
}

TEST_P(Conformance, TwoGroupsAtOnceDoNotDisturbEachOther) {
  GetParam().run([](Ranks& ranks) {
    const auto another = ranks.another();
    for (uint64_t round = 0; round < 3; ++round) {
      std::thread beside([&] { RandomOperations(*another, 100 + round).run(100); });
      RandomOperations(ranks.comm, 200 + round).run(100);
      beside.join();
    }
  });
}

TEST_P(Conformance, MemoryIsAlignedEmptyAndOutlivesItsGroup) {
  GetParam().run([](Ranks& ranks) {
    BufferMemory kept;
    {
      const auto another = ranks.another();
      for (const int64_t bytes : {0, 1, 100'000}) {
        kept = another->allocate(bytes);
        EXPECT_EQ(kept.bytes, bytes);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(kept.data.get()) % 64, 0u);
        for (int64_t i = 0; i < bytes; ++i) ASSERT_EQ(kept.data.get()[i], std::byte{0}) << i;
      }
    }
    std::memset(kept.data.get(), 7, 100'000);
    const Buffer own{kept.data.get(), 100'000, DType::u8};  // of another group: like any other memory
    ranks.comm.all_reduce(own, ReduceOp::max);
    EXPECT_EQ(hash_of(own), hash_of({std::vector<uint8_t>(100'000, 7).data(), 100'000, DType::u8}));
  });
}

// Buffers that lie in memory of different calls of allocate(), or of which one rank's lies elsewhere.
TEST_P(Conformance, BuffersThatDoNotLieAlikeAreReducedAllTheSame) {
  GetParam().run([](Ranks& ranks) {
    auto& comm = ranks.comm;
    const std::string name = comm.name();
    if (name == "shared memory and mpi" || name == "nccl")
      return;  // between nodes and on GPUs they must lie alike
    auto first = std::make_unique<Values<float>>(comm, 5000, Where::inside);
    Values<float> second(comm, 5000, Where::inside), third(comm, 5000, Where::outside);
    const bool odd = comm.rank() % 2 == 1;
    const auto chosen = [&](int round) -> Values<float>& {
      if (!odd || round == 0) return *first;
      return round == 1 ? third : second;
    };
    for (int round = 0; round < 4; ++round) {
      if (round == 3 && odd) first.reset();  // given back here, and still in use elsewhere
      auto& mine = chosen(round);
      for (int64_t i = 0; i < 5000; ++i) mine[i] = whole<float>(comm.rank(), i);
      comm.all_reduce(mine.buffer(), ReduceOp::sum);
      mine.expect(
          [&](int64_t i) {
            return over_ranks<float>(ReduceOp::sum, comm.size(), [i](int r) { return whole<float>(r, i); });
          },
          text("round ", round));
    }
  });
}

}  // namespace lab::test
