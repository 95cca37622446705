// Runs the tests on every rank of the job; the job fails when a test fails on any of them.

#include <gtest/gtest.h>

#include <memory>

#include "group.h"
#include "lab/comm/world.h"

namespace {
lab::Communicator *group = nullptr, *other_group = nullptr;
}

lab::Communicator& test_group() { return *group; }
lab::Communicator& second_group() { return *other_group; }

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  lab::World world = lab::World::join(&argc, &argv);
  const auto comm = world.communicator(lab::Backend::mpi);
  const auto other_comm = world.communicator(lab::Backend::mpi);
  group = comm.get();
  other_group = other_comm.get();
  if (comm->rank() != 0)
    delete testing::UnitTest::GetInstance()->listeners().Release(
        testing::UnitTest::GetInstance()->listeners().default_result_printer());
  int64_t failed = RUN_ALL_TESTS();
  comm->all_reduce({&failed, 1, lab::DType::i64}, lab::ReduceOp::max);
  world.leave();
  return static_cast<int>(failed);
}
