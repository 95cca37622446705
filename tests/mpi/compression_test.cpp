// Gradients that travel between nodes as bf16.

#include <gtest/gtest.h>
#include <torch/nn.h>

#include <cmath>

#include "comm/backends.h"
#include "group.h"
#include "lab/comm/agreement.h"
#include "lab/train/reducer.h"
#include "lab/train/tensor_buffer.h"
#include "recording.h"

namespace lab {
namespace {

constexpr int64_t inputs = 24;

torch::nn::Sequential net_of(at::ScalarType type) {
  torch::manual_seed(1);
  torch::nn::Sequential net;
  for (int i = 0; i < 4; ++i) net->push_back(torch::nn::Linear(50, 50));
  net->to(type);
  return net;
}

// What a step leaves, and the collectives it took.
struct Step {
  StepSums sums;
  int64_t buckets = 0;
  std::vector<std::string> log;
};

Step step_of(Communicator& comm, at::ScalarType type, bool as_bf16, double factor = 1) {
  auto net = net_of(type);
  FlatParameters parameters(*net);
  Recording recording(comm);
  GradientReducer reducer(recording, parameters,
                          {.numerics = {}, .bucket_cap_mb = 0.02, .bf16_between_nodes = as_bf16});
  recording.log.clear();
  torch::manual_seed(2);
  const at::Tensor x = torch::randn({inputs, 50}, type);
  const auto list = micro_batches({}, inputs, inputs, 0, comm.rank(), comm.size());
  const Range mine = list.front().positions;
  // A weight that bf16 cannot hold.
  const WeightedSum loss{net->forward(x.narrow(0, mine.first, mine.count)).pow(2).sum() * factor,
                         torch::full({}, 100'003.0 + comm.rank(), type)};
  const bool end = comm.rank() == comm.size() - 1;
  reducer.arm(list.front(), loss, true, {end ? 1.0 : 0.0, 0, 1});
  loss.sum.backward();
  Step step{reducer.finish(), reducer.buckets(), recording.log};
  step.sums.gradients = step.sums.gradients.clone();  // of the reducer, which goes
  return step;
}

double distance(const StepSums& a, const StepSums& b) {
  return (a.gradients - b.gradients).norm().item<double>() / b.gradients.norm().item<double>();
}

TEST(Compression, RoundsGradientsBetweenNodesAndNothingElse) {
  const auto comm = mpi_communicator();  // each rank is a node
  const Step plain = step_of(*comm, torch::kFloat32, false), rounded = step_of(*comm, torch::kFloat32, true);
  ASSERT_GT(rounded.buckets, 1);
  EXPECT_EQ(rounded.sums.told().loss_sum, plain.sums.told().loss_sum);
  EXPECT_EQ(rounded.sums.told().loss_weight, plain.sums.told().loss_weight);
  EXPECT_EQ(rounded.sums.told().notes.stop, 1);
  EXPECT_EQ(rounded.sums.told().notes.save, comm->size());
  EXPECT_TRUE(rounded.sums.told().finite);
  if (comm->size() == 1) {
    EXPECT_TRUE(torch::equal(rounded.sums.gradients, plain.sums.gradients));
  } else {
    EXPECT_GT(distance(rounded.sums, plain.sums), 1e-4) << "was anything rounded?";
    EXPECT_LT(distance(rounded.sums, plain.sums), 1e-2);
  }
  const Buffer sums = as_buffer(rounded.sums.gradients);
  require_equal(*comm, {"sums", std::string(static_cast<const char*>(sums.data), sums.bytes())});
  int64_t compressed = 0, exact = 0;
  for (const std::string& line : rounded.log) {
    compressed += line.starts_with("all_reduce_bf16 ");
    exact += line.starts_with("all_reduce ");
  }
  EXPECT_EQ(compressed, rounded.buckets);
  EXPECT_EQ(exact, 1) << "what rides behind the last gradient";
}

TEST(Compression, LeavesGradientsOf64BitsAndThoseOfOneNodeAsTheyAre) {
  const auto mpi = mpi_communicator();
  EXPECT_EQ(distance(step_of(*mpi, torch::kFloat64, true).sums, step_of(*mpi, torch::kFloat64, false).sums),
            0);
  Communicator& node = test_group();
  EXPECT_EQ(distance(step_of(node, torch::kFloat32, true).sums, step_of(node, torch::kFloat32, false).sums),
            0);
}

TEST(Compression, ANonFiniteGradientOnOneRankIsSeenByAll) {
  const auto comm = mpi_communicator();
  const bool end = comm->rank() == comm->size() - 1;
  for (const double factor : {std::nan(""), 1e38})
    EXPECT_FALSE(step_of(*comm, torch::kFloat32, true, end ? factor : 1).sums.told().finite) << factor;
}

}  // namespace
}  // namespace lab
