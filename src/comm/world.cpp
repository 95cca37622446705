#include "lab/comm/world.h"

#include <mpi.h>

#include <cstdlib>

#include "comm/mpi.h"

namespace lab {

World World::alone() { return World(); }

World World::join(int* argc, char*** argv) {
  int provided = 0;
  if (MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &provided) != MPI_SUCCESS ||
      provided < MPI_THREAD_MULTIPLE)
    throw Unavailable(
        "this MPI does not support MPI_THREAD_MULTIPLE, which lab needs; use an Open MPI built with threads");
  World world;
  world.by_mpi_ = true;
  MPI_Comm_rank(MPI_COMM_WORLD, &world.rank_);
  MPI_Comm_size(MPI_COMM_WORLD, &world.size_);
  MPI_Comm node = MPI_COMM_NULL;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, world.rank_, MPI_INFO_NULL, &node);
  MPI_Comm_rank(node, &world.local_rank_);
  MPI_Comm_size(node, &world.local_size_);
  MPI_Comm_free(&node);
  return world;
}

std::unique_ptr<Communicator> World::communicator(Backend backend) const {
  if (backend == Backend::nccl) return nccl_communicator();
  if (backend == Backend::self && size_ > 1)
    throw UsageError("--backend self is for one rank, but there are ", size_, "; use --backend auto");
  if (backend == Backend::self || !by_mpi_ || (backend == Backend::automatic && size_ == 1))
    return self_communicator();
  return mpi_communicator();
}

void World::leave() {
  if (by_mpi_) MPI_Finalize();
  by_mpi_ = false;
}

void World::abort(ExitCode code) const {
  if (by_mpi_) MPI_Abort(MPI_COMM_WORLD, static_cast<int>(code));
  std::_Exit(static_cast<int>(code));
}

}  // namespace lab
