// What saving costs the steps: a loop of equal steps, with and without a save in each tenth of them.
//   save_bench FOLDER PARAMETERS STEPS SECONDS_PER_STEP
// Prints, in seconds: the mean time that a save keeps its step, and the mean time that the loop is longer for
// each save. The state is that of AdamW: the parameters and two tensors more of their size.

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "lab/core/process.h"
#include "lab/train/checkpoint.h"

namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Work of a fixed amount, so that a thread beside it that takes the core or the memory shows.
struct Step {
  at::Tensor a = torch::rand({256, 256}), b = torch::rand({256, 256});
  int repeats = 1;
  void operator()() const {
    for (int i = 0; i < repeats; ++i) a.mm(b);
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 64;
  lab::start_process();
  at::set_num_threads(1);
  const int64_t parameters = std::atoll(argv[2]);
  const int steps = std::atoi(argv[3]);
  const double seconds = std::atof(argv[4]);

  lab::Snapshot snapshot;
  for (const char* name : {"weight", "lab.optimizer.exp_avg.weight", "lab.optimizer.exp_avg_sq.weight"})
    snapshot.model.push_back({name, torch::rand({parameters})});

  Step step;
  const auto start = Clock::now();
  for (int i = 0; i < 50; ++i) step();
  step.repeats = std::max(1, static_cast<int>(seconds / (since(start) / 50)));

  const auto sink = lab::checkpoint_folder({.folder = argv[1]}, nullptr, lab::Log::silent());
  const auto loop = [&](bool saves, double& kept) {
    const auto began = Clock::now();
    for (int i = 0; i < steps; ++i) {
      step();
      if (!saves || i % 10 != 9) continue;
      snapshot.state.step += 1;
      const auto before = Clock::now();
      sink->save(snapshot);
      kept += since(before);
    }
    return since(began);
  };
  double kept = 0, ignored = 0, longer = 0;
  sink->expect(snapshot);
  loop(false, ignored);
  for (const bool saves : {true, false, false, true}) {  // A-B-B-A, against a drift of the machine
    longer += saves ? loop(true, kept) : -loop(false, ignored);
    sink->finish();
  }
  const int saves = 2 * (steps / 10);
  std::printf("%.9f %.9f\n", kept / saves, longer / saves);
}
