#include "conformance.h"

#include "comm/backends.h"
#include "comm/shared.h"
#include "group.h"

namespace lab::test {
namespace {

using Body = std::function<void(Ranks&)>;

// Groups of all ranks of the job, as `make` makes them.
Backend group_of(const std::string& name, const std::function<std::unique_ptr<Communicator>()>& make) {
  return {name, [make](const Body& body) {
            const auto comm = make();
            Ranks ranks{*comm, make};
            body(ranks);
          }};
}

// As if so many ranks, or every so-manieth one, were on a node of their own.
Backend shared(const std::string& name, const std::function<int(int rank)>& node_of) {
  return group_of(name, [node_of] {
    return shared_communicator(node_of(test_group().rank()),
                               [](int color) { return mpi_communicator(color); });
  });
}

INSTANTIATE_TEST_SUITE_P(Mpi, Conformance,
                         testing::Values(group_of("mpi", [] { return mpi_communicator(); }),
                                         shared("shared", [](int) { return 0; }),
                                         shared("shared_by_two", [](int rank) { return rank / 2; }),
                                         shared("shared_by_three", [](int rank) { return rank / 3; }),
                                         shared("shared_dealt", [](int rank) { return rank % 2; })),
                         Conformance::name_of);

}  // namespace
}  // namespace lab::test
