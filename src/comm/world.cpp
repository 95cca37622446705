#include "lab/comm/world.h"

#include <mpi.h>

#include <cstdlib>

#include "comm/backends.h"
#include "comm/shared.h"
#include "lab/comm/agreement.h"
#include "lab/core/process.h"
#include "lab/device/device.h"
#include "lab/device/stream.h"

namespace lab {

World World::alone() {
  World world;
  world.heartbeat_ = std::make_unique<Heartbeat>();
  return world;
}

namespace {

// Made by the node's first rank, opened by the others before any of them goes on.
std::unique_ptr<Heartbeat> join_heartbeat(MPI_Comm node, int rank, int ranks) {
  int slot = 0, slots = 1;
  MPI_Comm_rank(node, &slot);
  MPI_Comm_size(node, &slots);
  std::shared_ptr<HeartbeatPage> page;
  SegmentAddress address;
  if (slot == 0) {
    page = HeartbeatPage::make(slots);
    address = page->address();
  }
  MPI_Bcast(&address, sizeof address, MPI_BYTE, 0, node);
  if (slot != 0) page = HeartbeatPage::open(address, slots);
  auto heartbeat = std::make_unique<Heartbeat>(page, slot, rank, ranks);
  MPI_Barrier(node);
  page->close();
  return heartbeat;
}

}  // namespace

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
  world.node_ = world.rank_;
  MPI_Bcast(&world.node_, 1, MPI_INT, 0, node);
  world.heartbeat_ = join_heartbeat(node, world.rank_, world.size_);
  MPI_Comm_free(&node);
  return world;
}

namespace {

std::unique_ptr<Communicator> shared_where_possible(int node, int rank, const Log& log) {
  try {
    return shared_communicator(node, mpi_communicator);
  } catch (const AgreedError& e) {
    if (rank == 0)
      log.warn("ranks talk by MPI alone, which takes longer (--backend mpi does so without this warning): ",
               e.what());
    return mpi_communicator();
  }
}

// Each rank of a node takes the next of its GPUs.
std::unique_ptr<Communicator> on_gpus(std::unique_ptr<Communicator> host, int local_rank, int local_size) {
  agree(*host, [&] {
    const auto gpus = static_cast<int>(visible_gpus().size());
    if (gpus > 0 && gpus < local_size)
      throw ConfigError("there are ", local_size, " ranks on ", host_name(), ", but ", gpus,
                        gpus == 1 ? " GPU" : " GPUs", "; start one rank for each GPU, or use --backend auto");
    try {
      use_gpu(local_rank);
    } catch (const Unavailable& e) {
      throw Unavailable("--backend nccl: ", e.what());
    }
  });
  return nccl_communicator(std::move(host));
}

}  // namespace

std::unique_ptr<Communicator> World::communicator(Backend backend, const Log& log) const {
  if (backend == Backend::self && size_ > 1)
    throw UsageError("--backend self is for one rank, but there are ", size_, "; use --backend auto");
  if (backend == Backend::nccl && !by_mpi_)
    return beating(*heartbeat_, on_gpus(self_communicator(), local_rank_, local_size_));
  if (backend == Backend::self || !by_mpi_ || (backend == Backend::automatic && size_ == 1))
    return self_communicator();
  if (backend == Backend::mpi) return beating(*heartbeat_, mpi_communicator());
  auto shared = shared_where_possible(node_, rank_, log);
  if (backend == Backend::nccl) shared = on_gpus(std::move(shared), local_rank_, local_size_);
  return beating(*heartbeat_, std::move(shared));
}

void World::leave() {
  heartbeat_->leave_in_order();
  if (by_mpi_) MPI_Finalize();
  by_mpi_ = false;
}

void World::abort(ExitCode code) const {
  heartbeat_->leave_by_abort(static_cast<int>(code));
  if (by_mpi_) MPI_Abort(MPI_COMM_WORLD, static_cast<int>(code));
  std::_Exit(static_cast<int>(code));
}

}  // namespace lab
