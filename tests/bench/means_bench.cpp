// Means of a network's gradients on command, as a step of one rank makes them, and nothing else.
//   means_bench NETWORK WEIGHT
// Told a number of steps, it divides as many gradients by the weight and says seconds.

#include <chrono>

#include "bench/line.h"
#include "bench/networks.h"
#include "lab/core/process.h"
#include "train/gradient_means.h"

int main(int argc, char** argv) {
  if (argc != 3) return static_cast<int>(lab::ExitCode::usage);
  lab::start_process();
  int64_t elements = 0;
  for (const auto& parameter : bench::network(argv[1])->parameters()) elements += parameter.numel();
  const at::Tensor sums = torch::randn(elements), means = torch::empty(elements);
  const double weight = std::atof(argv[2]);
  const bench::Line line;
  while (const int64_t steps = line.told()) {
    const auto start = std::chrono::steady_clock::now();
    for (int64_t i = 0; i < steps; ++i) {
      lab::GradientMeans step(elements, /*norm=*/false);
      step.each_chunk({0, elements}, weight, [&](lab::Range chunk) {
        return lab::GradientChunk{sums.const_data_ptr<float>() + chunk.first,
                                  {means.data_ptr<float>() + chunk.first, chunk.count, lab::DType::f32}};
      });
    }
    line.say(lab::text("seconds=",
                       std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()));
  }
}
