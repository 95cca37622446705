// The peer of step_bench and reduce_bench without Python: PyTorch's own reducer (c10d::Reducer, what
// DistributedDataParallel is made of) and its gloo backend, driven from C++.
//   c10d_bench step NETWORK BATCH DATA.h5      c10d_bench all_reduce BYTES
// RANK and WORLD_SIZE are the rank's place, LAB_BENCH_STORE a file that the ranks meet in. BATCH is of each
// rank. Speaks as they do. Buckets are rebuilt and gradients are views of them, the optimizer is torch's
// fused AdamW.

#include <ATen/Parallel.h>
#include <ATen/ops/_fused_adamw.h>
#include <torch/nn.h>

#include <chrono>
#include <functional>
#include <limits>
#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include "bench/digits.h"
#include "bench/line.h"
#include "bench/networks.h"
#include "lab/core/process.h"

namespace {

using Group = c10::intrusive_ptr<c10d::ProcessGroup>;

int number_of(const char* variable) {
  const char* value = std::getenv(variable);
  if (!value) throw lab::UsageError(variable, " is not set; this program is started by tests/bench/run.py");
  return std::atoi(value);
}

Group gloo_group() {
  const int rank = number_of("RANK"), size = number_of("WORLD_SIZE");
  const auto store = c10::make_intrusive<c10d::FileStore>(std::getenv("LAB_BENCH_STORE"), size);
  const auto options = c10d::ProcessGroupGloo::Options::create();
  options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1"));
  const auto gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size, options);
  auto group = c10::make_intrusive<c10d::ProcessGroup>(store, rank, size);
  group->setBackend(c10::DeviceType::CPU, c10d::ProcessGroup::BackendType::GLOO, gloo);
  group->setDefaultBackend(c10d::ProcessGroup::BackendType::GLOO);
  return group;
}

// What DistributedDataParallel and a fused optimizer do with a module's parameters.
class Ddp {
 public:
  Ddp(std::vector<at::Tensor> parameters, const Group& group) : parameters_(std::move(parameters)) {
    const auto [buckets, limits] =
        c10d::compute_bucket_assignment_by_size(parameters_, {std::numeric_limits<size_t>::max()});
    reducer_ = std::make_unique<c10d::Reducer>(
        parameters_, buckets, group, std::vector<bool>(parameters_.size(), false),
        c10d::kDefaultBucketBytesCap,
        /*find_unused_parameters=*/false, /*gradient_as_bucket_view=*/true,
        std::unordered_map<size_t, std::string>{}, c10d::kDefaultFirstBucketBytes,
        /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false, std::vector<int64_t>{});
    for (auto& parameter : parameters_) {
      std::vector<at::Tensor> one = {parameter.detach()};
      group->broadcast(one)->wait();
      averages_.push_back(torch::zeros_like(parameter));
      squares_.push_back(torch::zeros_like(parameter));
      steps_.push_back(torch::zeros({}, torch::kFloat32));
    }
  }

  void before_forward() {
    reducer_->prepare_for_forward();
    reducer_->rebuild_buckets();
  }
  void before_backward() { reducer_->prepare_for_backward({}); }

  void step() {
    const torch::NoGradGuard no_grad;
    std::vector<at::Tensor> values, gradients;
    for (auto& parameter : parameters_) {
      values.push_back(parameter);
      gradients.push_back(parameter.grad());
      steps_[values.size() - 1] += 1;
    }
    at::_fused_adamw_(values, gradients, averages_, squares_, {}, steps_, /*lr=*/1e-3, 0.9, 0.999,
                      /*weight_decay=*/0.01, 1e-8, /*amsgrad=*/false, /*maximize=*/false);
    for (auto& parameter : parameters_) parameter.mutable_grad().reset();
  }

 private:
  std::vector<at::Tensor> parameters_, averages_, squares_, steps_;
  std::unique_ptr<c10d::Reducer> reducer_;
};

std::function<double(int64_t)> steps(const std::string& network, int64_t batch, const std::string& data,
                                     const Group& group) {
  torch::manual_seed(0);
  auto layers = bench::network(network);
  const auto ddp = std::make_shared<Ddp>(layers->parameters(), group);
  const bench::Digits digits = bench::read_digits(data);
  const int64_t whole = digits.labels.numel() / (batch * group->getSize());
  return [=, at = int64_t{0}](int64_t count) mutable {
    double sum = 0;
    for (int64_t i = 0; i < count; ++i, ++at) {
      const int64_t first = (at % whole * group->getSize() + group->getRank()) * batch;
      ddp->before_forward();
      const at::Tensor output = layers->forward(digits.images.narrow(0, first, batch));
      ddp->before_backward();
      const at::Tensor loss =
          torch::nn::functional::cross_entropy(output, digits.labels.narrow(0, first, batch));
      loss.backward();
      ddp->step();
      sum += loss.item<double>();
    }
    return sum / static_cast<double>(count);
  };
}

std::function<double(int64_t)> sums(int64_t bytes, const Group& group) {
  return [group, tensors = std::vector<at::Tensor>{torch::zeros({bytes / 4})}](int64_t count) mutable {
    for (int64_t i = 0; i < count; ++i) group->allreduce(tensors)->wait();
    return 0.0;
  };
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (!(what == "step" && argc == 5) && !(what == "all_reduce" && argc == 3))
    return static_cast<int>(lab::ExitCode::usage);
  lab::start_process();
  at::set_num_threads(1);
  const Group group = gloo_group();
  const auto work =
      what == "step" ? steps(argv[2], std::atoll(argv[3]), argv[4], group) : sums(std::atoll(argv[2]), group);
  const bench::Line line;
  while (const int64_t count = line.told()) {
    const auto start = std::chrono::steady_clock::now();
    const double loss = work(count);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    line.say(lab::text("seconds=", seconds, " loss=", loss));
  }
}
