// How much of a slow link's time backward hides.
//   mpirun -np N overlap_bench ROUNDS [own [ROWS]]
// Eight layers of equal size, a bucket each, summed in three ways by turns: not at all slower than the ranks
// are, over a link while backward runs, and over it after backward. The link is a stand-in, behind which each
// sum waits until so many bytes would have passed, 0.8 of backward's time for all buckets together; or, with
// `own`, the one that the ranks' nodes have, whose time is that of the way after backward. Printed is the
// time hidden, over that of the best schedule (each bucket sent as soon as it is whole and the one before it
// has passed), with the least and the most of the rounds; for the stand-in also of the link after backward,
// which should be 0. All sums must have the same bits.

#include <sched.h>
#include <sys/prctl.h>
#include <torch/nn.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>

#include "forwarding.h"
#include "lab/comm/lane.h"
#include "lab/comm/world.h"
#include "lab/core/process.h"
#include "lab/core/random.h"
#include "lab/train/reducer.h"

namespace {

using Clock = std::chrono::steady_clock;

constexpr int layers = 8, width = 500, steps = 5;
int64_t rows = 1024;  // of a batch: how long backward takes

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double middle(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

double of_slowest(lab::Communicator& comm, double value) {
  comm.all_reduce({&value, 1, lab::DType::f64}, lab::ReduceOp::max);
  return value;
}

// A group behind a link: sums of gradients take so much longer.
class Link final : public lab::test::Forwarding {
 public:
  using Forwarding::Forwarding;
  void all_reduce(lab::Buffer buffer, lab::ReduceOp op) override {
    const double seconds = static_cast<double>(buffer.bytes()) * seconds_per_byte;
    Forwarding::all_reduce(buffer, op);
    if (seconds == 0) return;
    prctl(PR_SET_TIMERSLACK, 1);  // ns: the link takes as long as it says
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  }
  lab::Ticket submit(std::function<void()> work) override {
    submitted.push_back(since(start));
    return lane_.submit(std::move(work));
  }

  double seconds_per_byte = 0;
  Clock::time_point start;
  std::vector<double> submitted;

 private:
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
  // The middle of some steps', which all ranks begin together and the slowest ends.
  double steps_each(lab::Communicator& all) {
    std::vector<double> seconds;
    whole_at.clear();
    for (int i = 0; i < steps; ++i) {
      all.barrier();
      seconds.push_back(of_slowest(all, step()));
      whole_at.push_back(link.submitted);
    }
    return middle(seconds);
  }
  bool same_as(const Way& other) const { return torch::equal(sums_, other.sums_); }
  double bytes() const { return static_cast<double>(parameters_.size()) * 4; }
  int64_t buckets() const { return reducer_.buckets(); }

  Link link;
  std::vector<std::vector<double>> whole_at;  // in each of the last steps: when each bucket was

 private:
  torch::nn::Sequential net_;
  lab::FlatParameters parameters_;
  lab::GradientReducer reducer_;
  at::Tensor x_, sums_;
};

// When the last bucket has passed, in the best schedule: none is sent before it is whole on all ranks.
double best_end(lab::Communicator& comm, std::vector<std::vector<double>> whole_at, double each) {
  std::vector<double> ends;
  for (auto& step : whole_at) {
    comm.all_reduce({step.data(), std::ssize(step), lab::DType::f64}, lab::ReduceOp::max);
    double end = 0;
    for (const double at : step) end = std::max(end, at) + each;
    ends.push_back(end);
  }
  return middle(ends);
}

// What the rounds of the three ways gave.
struct Hidden {
  std::vector<double> during, after;
};

// `alone` has the same work, and no link.
Hidden measure(lab::Communicator& comm, Way& alone, Way& during, Way& after, int rounds, bool own) {
  Hidden hidden;
  for (int round = 0; round < rounds; ++round) {
    const double first = alone.steps_each(comm);
    if (!own)
      for (Way* way : {&during, &after}) way->link.seconds_per_byte = 0.8 * first / way->bytes();
    const double with = during.steps_each(comm), without = after.steps_each(comm);
    const double base = (first + alone.steps_each(comm)) / 2;
    const double link = own ? without - base : 0.8 * first;
    const double each = link / static_cast<double>(alone.buckets());
    const double best = base + link - best_end(comm, alone.whole_at, each);
    hidden.during.push_back((base + link - with) / best);
    hidden.after.push_back((base + link - without) / best);
  }
  return hidden;
}

// As launchers bind ranks: one that moves from core to core is measured with its neighbours' bad luck.
void bind_to_a_core(int rank) {
  cpu_set_t cores, one;
  if (sched_getaffinity(0, sizeof cores, &cores) != 0) return;
  int skip = rank % CPU_COUNT(&cores);
  for (int core = 0; core < CPU_SETSIZE; ++core)
    if (CPU_ISSET(core, &cores) && skip-- == 0) {
      CPU_ZERO(&one);
      CPU_SET(core, &one);
      sched_setaffinity(0, sizeof one, &one);
    }
}

}  // namespace

int main(int argc, char** argv) {
  lab::start_process();
  at::set_num_threads(1);
  lab::World world = lab::World::join(&argc, &argv);
  bind_to_a_core(world.rank());
  int failed = 0;
  {
    const int rounds = argc > 1 ? std::atoi(argv[1]) : 7;
    const bool own = argc > 2 && std::string(argv[2]) == "own";
    if (argc > 3) rows = std::atoi(argv[3]);
    const auto comm = world.communicator(lab::Backend::automatic, lab::Log(world.rank(), world.size()));
    const auto nobody = lab::self_communicator();
    Way alone(own ? *nobody : *comm, true), during(*comm, true), after(*comm, false);
    for (int i = 0; i < 3; ++i)
      for (Way* way : {&alone, &during, &after}) way->step();
    const Hidden hidden = measure(*comm, alone, during, after, rounds, own);
    failed = !during.same_as(after) || (!own && !during.same_as(alone));
    if (comm->rank() == 0) {
      const auto told = [](const char* name, const std::vector<double>& values) {
        const auto [least, most] = std::ranges::minmax(values);
        std::printf("%s %.3f [%.3f-%.3f]\n", name, middle(values), least, most);
      };
      std::printf("%d ranks, %s, %d buckets: bits %s\n", comm->size(),
                  own ? "their own link" : "link 0.8 of backward", static_cast<int>(alone.buckets()),
                  failed ? "DIFFER" : "equal");
      told("hidden while backward runs, over the best schedule:", hidden.during);
      if (!own) told("hidden after backward:", hidden.after);
    }
  }
  world.leave();
  return failed;
}
