#include "comm/backends.h"
#include "comm/shared.h"
#include "conformance_bf16.h"
#include "thread_ranks.h"

namespace lab::test {
namespace {

// Threads as ranks of one node, each with a device of its own.
Backend nccl(int count) {
  return {
      text("nccl_", count), [count](const std::function<void(Ranks&)>& body) {
        on_threads(count, [&](ThreadCommunicator& threads) {
          const auto make = [&] {
            return nccl_communicator(shared_communicator(0, [&](int color) { return threads.split(color); }));
          };
          const auto comm = make();
          Ranks ranks{*comm, make, [](int) { return 0; }};
          body(ranks);
        });
      }};
}

INSTANTIATE_TEST_SUITE_P(Nccl, Conformance, testing::Values(nccl(1), nccl(2), nccl(3), nccl(4)),
                         Conformance::name_of);

}  // namespace
}  // namespace lab::test
