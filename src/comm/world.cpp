#include "lab/comm/world.h"

#include <mpi.h>

#include <cstdlib>
#include <functional>

#include "comm/backends.h"
#include "comm/mpi_calls.h"
#include "comm/shared.h"
#include "lab/comm/agreement.h"
#include "lab/core/process.h"
#include "lab/device/device.h"
#include "lab/device/stream.h"

namespace lab {

World World::alone() {
  World world;
  world.heartbeat_ = std::make_shared<Heartbeat>();
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

namespace {

// Ranks of one node talk by its memory: Open MPI need not load what talks over networks, nor look for their
// hardware. Who tells it what to load is obeyed.
void leave_out_networks() {
  const char *ranks = std::getenv("OMPI_COMM_WORLD_SIZE"), *here = std::getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
  if (ranks && here && std::string_view(ranks) == here) setenv("OMPI_MCA_pml", "ob1", /*overwrite=*/0);
}

}  // namespace

World World::join(int* argc, char*** argv) {
  int provided = 0;
  leave_out_networks();
  if (MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &provided) != MPI_SUCCESS ||
      provided < MPI_THREAD_MULTIPLE)
    throw Unavailable(
        "this MPI does not support MPI_THREAD_MULTIPLE, which lab needs; use an Open MPI built with threads");
  World world;
  world.ranks_ = std::make_shared<const MpiRanks>(MPI_COMM_WORLD);
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

std::unique_ptr<Communicator> shared_where_possible(const MpiRanks& ranks, int node, int rank,
                                                    const Log& log) {
  const Split split = [&](int color) { return mpi_communicator(ranks, color); };
  try {
    return shared_communicator(node, split);
  } catch (const AgreedError& e) {
    if (rank == 0)
      log.warn("ranks talk by MPI alone, which takes longer (--backend mpi does so without this warning): ",
               e.what());
    return split(0);
  }
}

}  // namespace

std::unique_ptr<Communicator> World::communicator(Backend backend, const Log& log) const {
  if (backend == Backend::self && size_ > 1)
    throw UsageError("--backend self is for one rank, but there are ", size_, "; use --backend auto");
  if (size_ == 1 && backend != Backend::mpi) return self_communicator();
  if (backend == Backend::mpi)
    return beating(*heartbeat_, ranks_ ? mpi_communicator(*ranks_, 0) : self_communicator());
  return beating(*heartbeat_, shared_where_possible(*ranks_, node_, rank_, log));
}

World World::part(int color) const {
  World part;
  part.heartbeat_ = heartbeat_;
  part.local_rank_ = local_rank_;
  part.local_size_ = local_size_;
  part.node_ = node_;
  if (!ranks_) return part;
  part.ranks_ = std::make_shared<const MpiRanks>(split(ranks_->comm, color));
  MPI_Comm_rank(part.ranks_->comm, &part.rank_);
  MPI_Comm_size(part.ranks_->comm, &part.size_);
  return part;
}

namespace {

// What each rank computes on, as the ranks tell each other.
struct Choice {
  int64_t node = 0, cuda = 0, index = 0, identity = 0;
};

std::string ranks_text(const std::vector<std::string>& ranks) {
  return text(ranks.size() == 1 ? "rank " : "ranks ", join(ranks));
}

// "" when all ranks have a GPU, of their own unless they may share, or none has one; else what is wrong.
std::string clash_of(const std::vector<Choice>& choices, bool may_share) {
  std::vector<std::string> with, without;
  for (size_t r = 0; r < choices.size(); ++r) (choices[r].cuda ? with : without).push_back(std::to_string(r));
  if (!with.empty() && !without.empty())
    return text(ranks_text(with), with.size() == 1 ? " has" : " have", " a GPU, but ", ranks_text(without),
                without.size() == 1 ? " has" : " have",
                " none; start ranks only where there are GPUs, or set trainer.init.accelerator = \"cpu\"");
  if (with.empty() || may_share) return "";
  for (size_t r = 0; r < choices.size(); ++r)
    for (size_t other = 0; other < r; ++other)
      if (choices[r].node == choices[other].node && choices[r].identity == choices[other].identity)
        return text("ranks ", other, " and ", r, " of one node would share its GPU ", choices[r].index,
                    "; start one rank for each GPU, or set trainer.init.accelerator = \"cpu\"");
  return "";
}

}  // namespace

std::unique_ptr<Communicator> World::on_device(std::unique_ptr<Communicator> group, const Device& device,
                                               Backend backend, bool may_share_gpus) const {
  const bool cuda = device.kind == Device::Kind::cuda;
  std::vector<Choice> choices(static_cast<size_t>(size_));
  choices[static_cast<size_t>(rank_)] = {node_, cuda, device.index,
                                         static_cast<int64_t>(std::hash<std::string>()(device.identity))};
  constexpr int64_t words = sizeof(Choice) / sizeof(int64_t);
  group->all_gather({choices.data(), size_ * words, DType::i64});
  agree(*group, [&] {
    if (const auto clash = clash_of(choices, may_share_gpus); !clash.empty()) throw ConfigError(clash);
    if (cuda && backend == Backend::mpi && size_ > 1)
      throw ConfigError(
          "--backend mpi can't reach a GPU's memory; use --backend auto, or set trainer.init.accelerator = "
          "\"cpu\"");
    if (!cuda && backend != Backend::nccl) return;
    try {
      use_gpu(device.index);
    } catch (const Unavailable& e) {
      if (cuda) throw;
      throw Unavailable("--backend nccl: ", e.what());
    }
    if (!cuda) throw Unavailable("--backend nccl is for GPUs, but trainer.init.accelerator = \"cpu\"");
  });
  if (!cuda) return group;
  if (size_ == 1 && backend != Backend::nccl) return self_communicator(device_allocation);
  return beating(*heartbeat_, nccl_communicator(unbeaten(std::move(group))));
}

void World::leave() {
  heartbeat_->leave_in_order();
  if (ranks_) MPI_Finalize();
  ranks_.reset();
}

void World::abort(ExitCode code) const {
  heartbeat_->leave_by_abort(static_cast<int>(code));
  if (ranks_) MPI_Abort(MPI_COMM_WORLD, static_cast<int>(code));
  std::_Exit(static_cast<int>(code));
}

}  // namespace lab
