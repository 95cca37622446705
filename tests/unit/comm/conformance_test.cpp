#include "comm/shared.h"
#include "conformance_bf16.h"
#include "thread_ranks.h"

namespace lab::test {
namespace {

using Body = std::function<void(Ranks&)>;

void on_self(const Body& body) {
  const auto comm = self_communicator();
  Ranks ranks{*comm, [] { return self_communicator(); }};
  body(ranks);
}

Backend threads(int count) {
  return {text("threads_", count), [count](const Body& body) {
            on_threads(count, [&](ThreadCommunicator& comm) {
              Ranks ranks{comm, [&] { return comm.split(0); }};
              body(ranks);
            });
          }};
}

// The shared-memory backend, with threads as ranks. nodes: how many ranks are on each; `dealt` out to them
// one after the other, or node by node.
Backend shared(const std::vector<int>& nodes, bool dealt = false) {
  std::string name = "shared";
  std::vector<int> node_of;
  for (size_t node = 0; node < nodes.size(); ++node) {
    name += text('_', nodes[node]);
    node_of.insert(node_of.end(), static_cast<size_t>(nodes[node]), static_cast<int>(node));
  }
  if (dealt)
    for (size_t r = 0; r < node_of.size(); ++r) node_of[r] = static_cast<int>(r % nodes.size());
  return {name + (dealt ? "_dealt" : ""), [=](const Body& body) {
            on_threads(static_cast<int>(node_of.size()), [&](ThreadCommunicator& threads) {
              const auto make = [&] {
                return shared_communicator(node_of[static_cast<size_t>(threads.rank())],
                                           [&](int color) { return threads.split(color); });
              };
              const auto comm = make();
              EXPECT_STREQ(comm->name(), nodes.size() == 1 ? "shared memory" : "shared memory and mpi");
              Ranks ranks{*comm, make, [&](int rank) { return node_of[static_cast<size_t>(rank)]; }};
              body(ranks);
            });
          }};
}

INSTANTIATE_TEST_SUITE_P(Threads, Conformance,
                         testing::Values(Backend{"self", on_self}, threads(1), threads(3), shared({1}),
                                         shared({2}), shared({3}), shared({4}), shared({8}), shared({2, 2}),
                                         shared({3, 1}), shared({3, 2}, true), shared({1, 1, 1})),
                         Conformance::name_of);

}  // namespace
}  // namespace lab::test
