// The real NCCL on a machine without a GPU: what fails says so, on all ranks alike, and nobody waits.

#include <gmock/gmock.h>

#include "comm/backends.h"
#include "lab/comm/agreement.h"
#include "lab/device/device.h"
#include "lab/device/stream.h"
#include "mpi/group.h"

namespace lab::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr const char* drivers_words = "CUDA driver version is insufficient for CUDA runtime version";

class NoGpu : public testing::Test {
 protected:
  void SetUp() override {
    if (!visible_gpus().empty()) GTEST_SKIP() << "this machine has a GPU";
  }
};

TEST_F(NoGpu, NcclFindsTheRanksButNoDriver) {
  EXPECT_THAT([] { nccl_communicator(mpi_communicator()); },
              ThrowsMessage<AgreedError>(
                  AllOf(HasSubstr("NCCL 2."), HasSubstr(drivers_words), HasSubstr("nvidia-smi"))));
}

TEST_F(NoGpu, TheWorldsCommunicatorSaysThatThereIsNone) {
  try {
    test_world().on_device(test_world().communicator(Backend::nccl, {}), {}, Backend::nccl);
    FAIL() << "there is no GPU";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::unavailable);
    EXPECT_THAT(error.what(), HasSubstr(drivers_words));
  }
}

TEST_F(NoGpu, OrdinaryMemoryIsNotTheDevices) {
  int here = 0;
  EXPECT_FALSE(on_device(&here));
  EXPECT_FALSE(on_device(nullptr));
}

}  // namespace
}  // namespace lab::test
