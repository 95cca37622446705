// Runs the tests on every rank of the job; the job fails when a test fails on any of them.

#include <gtest/gtest.h>

#include <memory>

#include "group.h"

namespace {
lab::World* joined = nullptr;
lab::Communicator* group = nullptr;
}  // namespace

lab::World& test_world() { return *joined; }
lab::Communicator& test_group() { return *group; }

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  lab::World world = lab::World::join(&argc, &argv);
  joined = &world;
  const auto comm = world.communicator(lab::Backend::automatic, lab::Log(world.rank(), world.size()));
  group = comm.get();
  if (comm->rank() != 0)
    delete testing::UnitTest::GetInstance()->listeners().Release(
        testing::UnitTest::GetInstance()->listeners().default_result_printer());
  int64_t failed = RUN_ALL_TESTS();
  comm->all_reduce({&failed, 1, lab::DType::i64}, lab::ReduceOp::max);
  world.leave();
  return static_cast<int>(failed);
}
