// What an all-reduce costs: in shared memory, against MPI_Allreduce, and against the memory itself.
//   mpirun -np 2 all_reduce_bench [ROUNDS [BYTES ...]]
// One line per size. A ratio is the median over rounds of A-B-B-A, of the shortest of some blocks each, with
// its range; the longest rank counts. "control" is the all-reduce against itself, and should be 1. "memory"
// is a loop on each rank that reads and writes the same bytes and waits for nobody; only for two ranks.

#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "lab/comm/world.h"
#include "lab/core/process.h"
#include "lab/core/range.h"

namespace {

using lab::Buffer;
using lab::DType;
using Clock = std::chrono::steady_clock;
using Work = std::function<void()>;

constexpr double least_block = 3e-4;  // seconds
constexpr int blocks = 5;

// Seconds for one of `repeats`, on the rank that takes the longest.
double seconds_of(const Work& work, int repeats) {
  MPI_Barrier(MPI_COMM_WORLD);
  const auto start = Clock::now();
  for (int i = 0; i < repeats; ++i) work();
  double mine = std::chrono::duration<double>(Clock::now() - start).count() / repeats, longest = 0;
  MPI_Allreduce(&mine, &longest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  return longest;
}

double best_of_blocks(const Work& work, int repeats) {
  double best = 1e9;
  for (int i = 0; i < blocks; ++i) best = std::min(best, seconds_of(work, repeats));
  return best;
}

int repeats_for(const Work& work) {
  seconds_of(work, 2);  // the first touches memory
  return std::max(1, static_cast<int>(least_block / seconds_of(work, 3)));
}

struct Comparison {
  double median = 0, low = 0, high = 0;
  double best_first = 1e9;  // seconds
};

Comparison compare(const Work& a, const Work& b, int rounds) {
  const int repeats_a = repeats_for(a), repeats_b = repeats_for(b);
  Comparison out;
  std::vector<double> ratios;
  for (int round = 0; round < rounds; ++round) {
    const double a1 = best_of_blocks(a, repeats_a), b1 = best_of_blocks(b, repeats_b);
    const double b2 = best_of_blocks(b, repeats_b), a2 = best_of_blocks(a, repeats_a);
    ratios.push_back((a1 + a2) / (b1 + b2));
    out.best_first = std::min({out.best_first, a1, a2});
  }
  std::ranges::sort(ratios);
  out.median = ratios[ratios.size() / 2];
  out.low = ratios.front();
  out.high = ratios.back();
  return out;
}

void add_both(float* __restrict a, float* __restrict b, int64_t n) {
  for (int64_t i = 0; i < n; ++i) a[i] = b[i] = a[i] + b[i];
}

void print(const char* what, const Comparison& c) {
  std::printf("  %s %.3f [%.3f-%.3f]", what, c.median, c.low, c.high);
}

void measure(lab::Communicator& comm, int64_t bytes, int rounds) {
  const int64_t count = bytes / 4;
  const auto window = comm.allocate(bytes), plain = lab::plain_memory(bytes);
  const Buffer inside{window.data.get(), count, DType::f32}, outside{plain.data.get(), count, DType::f32};
  const auto in_window = [&] { comm.all_reduce(inside, lab::ReduceOp::sum); };
  const auto through = [&] { comm.all_reduce(outside, lab::ReduceOp::sum); };
  const auto by_mpi = [&] {
    MPI_Allreduce(MPI_IN_PLACE, outside.data, static_cast<int>(count), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
  };
  const Comparison control = compare(in_window, in_window, rounds), mpi = compare(in_window, by_mpi, rounds),
                   copied = compare(through, by_mpi, rounds);
  const auto seen = comm.view({&inside, 1});
  Comparison memory;
  if (seen.size() == 2) {
    comm.barrier();
    const lab::Range part = lab::shard(count, comm.rank(), 2);
    float* a = static_cast<float*>(seen[0][0].data) + part.first;
    float* b = static_cast<float*>(seen[1][0].data) + part.first;
    memory = compare([&] { add_both(a, b, part.count); }, in_window, rounds);
  }
  if (comm.rank() != 0) return;
  std::printf("%10lld bytes  %9.1f us", static_cast<long long>(bytes), mpi.best_first * 1e6);
  print("over MPI", mpi);
  print("copied over MPI", copied);
  if (seen.size() == 2) print("memory over it", memory);
  print("control", control);
  std::printf("\n");
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  lab::start_process();
  lab::World world = lab::World::join(&argc, &argv);
  const auto comm = world.communicator(lab::Backend::automatic, lab::Log(world.rank(), world.size()));
  const int rounds = argc > 1 ? std::max(7, std::atoi(argv[1])) : 7;
  std::vector<int64_t> sizes = {4 << 10, 64 << 10, 1 << 20, 25 << 20, 100 << 20};
  if (argc > 2) sizes.clear();
  for (int i = 2; i < argc; ++i) sizes.push_back(std::atoll(argv[i]));
  if (comm->rank() == 0) std::printf("%d ranks, %s\n", comm->size(), comm->name());
  for (const int64_t bytes : sizes) measure(*comm, bytes, rounds);
  world.leave();
  return 0;
}
