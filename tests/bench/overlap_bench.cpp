// How much of a slow link's time backward hides.
//   mpirun -np 2 overlap_bench [ROUNDS]
// Eight layers of equal size, a bucket each; the link is the ranks' own group, after which each sum
// waits until so many bytes would have passed: 0.8 of backward's time for all buckets together. Three ways by
// turns: the group alone, the link while backward runs, and the link after it. Printed is the time hidden,
// over that of the best schedule (each bucket sent as soon as it is whole and the one before it has passed),
// with the least and the most of the rounds; and the same for the link after backward, which should be 0. All
// three must have the same bits.

#include <torch/nn.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>

#include "lab/comm/lane.h"
#include "lab/comm/world.h"
#include "lab/core/process.h"
#include "lab/core/random.h"
#include "lab/train/reducer.h"

namespace {

using Clock = std::chrono::steady_clock;

constexpr int layers = 8, width = 500, rows = 512, steps = 5;

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double middle(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

// A group behind a link: sums of gradients take so much longer.
class Link final : public lab::Communicator {
 public:
  explicit Link(lab::Communicator& inner) : inner_(inner) {}
  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  const char* name() const override { return inner_.name(); }
  void all_reduce(lab::Buffer buffer, lab::ReduceOp op) override {
    const double seconds = static_cast<double>(buffer.bytes()) * seconds_per_byte;
    inner_.all_reduce(buffer, op);
    if (seconds > 0) std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  }
  void all_reduce_bf16(lab::Buffer sums) override { inner_.all_reduce_bf16(sums); }
  void broadcast(lab::Buffer buffer, int root) override { inner_.broadcast(buffer, root); }
  void all_gather(lab::Buffer all) override { inner_.all_gather(all); }
  void exchange(std::span<const lab::Message> sends, std::span<const lab::Message> receives) override {
    inner_.exchange(sends, receives);
  }
  void barrier() override { inner_.barrier(); }
  lab::BufferMemory allocate(int64_t bytes) override { return inner_.allocate(bytes); }
  std::vector<std::vector<lab::Buffer>> view(std::span<const lab::Buffer> mine) override {
    return inner_.view(mine);
  }
  lab::Ticket submit(std::function<void()> work) override {
    submitted.push_back(since(start));
    return lane_.submit(std::move(work));
  }

  double seconds_per_byte = 0;
  Clock::time_point start;
  std::vector<double> submitted;

 private:
  lab::Communicator& inner_;
  lab::Lane lane_;  // as between nodes
};

torch::nn::Sequential network() {
  torch::manual_seed(1);
  torch::nn::Sequential net;
  for (int i = 0; i < layers; ++i) net->push_back(torch::nn::Linear(width, width));
  return net;
}

// One way to sum the gradients of a model of its own.
class Way {
 public:
  Way(lab::Communicator& comm, bool during_backward)
      : link(comm),
        net_(network()),
        parameters_(*net_),
        reducer_(link, parameters_, {{}, 1.0, during_backward}) {
    torch::manual_seed(comm.rank());
    x_ = torch::randn({rows, width});
  }

  // Seconds from the start of backward until the sums are there.
  double step() {
    const at::Tensor out = net_->forward(x_);
    const lab::WeightedSum loss{out.square().sum() * 1e-3, torch::ones({})};
    const lab::MicroBatch all{.positions = {0, rows}};
    link.submitted.clear();
    link.start = Clock::now();
    reducer_.arm(all, loss, true);
    loss.sum.backward();
    sums_ = reducer_.finish().gradients;
    return since(link.start);
  }
  double steps_each() {
    std::vector<double> seconds;
    for (int i = 0; i < steps; ++i) seconds.push_back(step());
    return middle(seconds);
  }
  bool same_as(const Way& other) const { return torch::equal(sums_, other.sums_); }
  double bytes() const { return static_cast<double>(parameters_.size()) * 4; }
  int64_t buckets() const { return reducer_.buckets(); }

  Link link;

 private:
  torch::nn::Sequential net_;
  lab::FlatParameters parameters_;
  lab::GradientReducer reducer_;
  at::Tensor x_, sums_;
};

// When the last bucket has passed, in the best schedule.
double best_end(const std::vector<double>& whole_at, double each) {
  double end = 0;
  for (const double at : whole_at) end = std::max(end, at) + each;
  return end;
}

double of_slowest(lab::Communicator& comm, double value) {
  comm.all_reduce({&value, 1, lab::DType::f64}, lab::ReduceOp::max);
  return value;
}

}  // namespace

int main(int argc, char** argv) {
  lab::start_process();
  at::set_num_threads(1);
  lab::World world = lab::World::join(&argc, &argv);
  int failed = 0;
  {
    const int rounds = argc > 1 ? std::atoi(argv[1]) : 7;
    const auto comm = world.communicator(lab::Backend::automatic, lab::Log(world.rank(), world.size()));
    Way alone(*comm, true), during(*comm, true), after(*comm, false);
    for (int i = 0; i < 3; ++i)
      for (Way* way : {&alone, &during, &after}) way->step();
    std::vector<double> hidden, hidden_after;
    for (int round = 0; round < rounds; ++round) {
      const double backward = of_slowest(*comm, alone.steps_each());
      const double link = 0.8 * backward, each = link / static_cast<double>(alone.buckets());
      for (Way* way : {&during, &after}) way->link.seconds_per_byte = link / way->bytes();
      const double with = of_slowest(*comm, during.steps_each()),
                   without = of_slowest(*comm, after.steps_each());
      const double again = of_slowest(*comm, alone.steps_each()), base = (backward + again) / 2;
      const double best = base + link - of_slowest(*comm, best_end(alone.link.submitted, each));
      hidden.push_back((base + link - with) / best);
      hidden_after.push_back((base + link - without) / best);
    }
    failed = !during.same_as(after) || !during.same_as(alone);
    if (comm->rank() == 0) {
      const auto told = [](const char* name, const std::vector<double>& values) {
        const auto [least, most] = std::ranges::minmax(values);
        std::printf("%s %.3f [%.3f-%.3f]\n", name, middle(values), least, most);
      };
      std::printf("%d ranks, %d buckets, link 0.8 of backward: bits %s\n", comm->size(),
                  static_cast<int>(alone.buckets()), failed ? "DIFFER" : "equal");
      told("hidden while backward runs, over the best schedule:", hidden);
      told("hidden after backward:", hidden_after);
    }
  }
  world.leave();
  return failed;
}
