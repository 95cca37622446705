#include "comm/backends.h"
#include "comm/shared.h"
#include "conformance_bf16.h"
#include "group.h"

namespace lab::test {
namespace {

using Body = std::function<void(Ranks&)>;

// Groups of all ranks of the job, as `make` makes them.
Backend group_of(const std::string& name, const std::function<std::unique_ptr<Communicator>()>& make,
                 const std::function<int(int rank)>& node_of) {
  return {name, [=](const Body& body) {
            const auto comm = make();
            Ranks ranks{*comm, make, node_of};
            body(ranks);
          }};
}

// As if so many ranks, or every so-manieth one, were on a node of their own.
Backend shared(const std::string& name, const std::function<int(int rank)>& node_of) {
  const auto make = [node_of] {
    return shared_communicator(node_of(test_group().rank()),
                               [](int color) { return mpi_communicator(color); });
  };
  return group_of(name, make, node_of);
}

INSTANTIATE_TEST_SUITE_P(Mpi, Conformance,
                         testing::Values(group_of(
                                             "mpi", [] { return mpi_communicator(); },
                                             [](int rank) { return rank; }),
                                         shared("shared", [](int) { return 0; }),
                                         shared("shared_by_two", [](int rank) { return rank / 2; }),
                                         shared("shared_by_three", [](int rank) { return rank / 3; }),
                                         shared("shared_dealt", [](int rank) { return rank % 2; })),
                         Conformance::name_of);

}  // namespace
}  // namespace lab::test
