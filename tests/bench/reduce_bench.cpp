// Sums over the ranks on command, by the communicator that lab_train would use, and where it would have them.
//   mpirun -np N reduce_bench BYTES
// Told a number of sums of so many bytes of floats, it does them and says seconds.

#include <chrono>

#include "bench/line.h"
#include "lab/comm/world.h"
#include "lab/core/process.h"

int main(int argc, char** argv) {
  if (argc != 2) return static_cast<int>(lab::ExitCode::usage);
  lab::start_process();
  lab::World world = lab::World::join(&argc, &argv);
  {
    const auto comm = world.communicator(lab::Backend::automatic, lab::Log(world.rank(), world.size()));
    const auto memory = comm->allocate(std::atoll(argv[1]));
    const lab::Buffer buffer{memory.data.get(), memory.bytes / 4, lab::DType::f32};
    const bench::Line line;
    while (const int64_t times = line.told()) {
      const auto start = std::chrono::steady_clock::now();
      for (int64_t i = 0; i < times; ++i) comm->all_reduce(buffer, lab::ReduceOp::sum);
      line.say(lab::text("seconds=",
                         std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()));
    }
  }
  world.leave();
}
