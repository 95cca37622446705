#pragma once
// All processes of the job: joined once at the start, left once at the end.

#include <memory>
#include <string>

#include "lab/comm/communicator.h"
#include "lab/core/error.h"
#include "lab/core/heartbeat.h"
#include "lab/core/log.h"
#include "lab/device/device.h"

namespace lab {

struct MpiRanks;

enum class Backend { automatic, self, mpi, nccl };

// Owned by the program's main. Every rank makes one, and calls leave() when it ends in good order.
class World {
 public:
  static World alone();  // one rank, without MPI
  static World join(
      int* argc, char*** argv);  // by MPI, with full thread support; Unavailable where that is not to be had

  int rank() const { return rank_; }
  int size() const { return size_; }
  int local_rank() const { return local_rank_; }  // among the ranks of this node
  int local_size() const { return local_size_; }

  // A group of all ranks; this must outlive it. automatic and nccl: self for one rank, else memory that the
  // ranks of a node share, with MPI between nodes; where a node refuses that, a warning, and mpi: MPI alone.
  // Throws UsageError for self among several ranks, the same on every rank. Collective.
  std::unique_ptr<Communicator> communicator(Backend backend, const Log& log) const;

  // What `group`, which communicator() made, becomes for ranks that compute on such devices: allocate() gives
  // their memory, and where there are several ranks, or nccl is asked for, what lies in it goes by NCCL. From
  // now on this thread works with that GPU. As it was for CPUs. Throws AgreedError: config, where some ranks
  // have GPUs and others none, or two share one that they may not, or backend mpi is asked for, which can't
  // reach a GPU's memory; unavailable, where nccl is asked for and a rank has no GPU, or NCCL can't begin.
  // Collective.
  std::unique_ptr<Communicator> on_device(std::unique_ptr<Communicator> group, const Device& device,
                                          Backend backend, bool may_share_gpus = false) const;

  // The ranks that give the same color (not negative), in their order, as a world of their own: what is made
  // of it is theirs alone, while local ranks stay those of the node, and leave() and abort() the whole's.
  // This must outlive it. Collective over all ranks of this.
  World part(int color) const;

  // Where this rank is, for the other ranks of its node to see; the communicator writes its collectives
  // there.
  Heartbeat& heartbeat() const { return *heartbeat_; }

  // Collective: all ranks are done and exit by themselves.
  void leave();
  // Ends all ranks of the job now, with this exit code. For errors that the other ranks cannot know of, after
  // saying what is wrong: the node's watchdogs say nothing about this end.
  [[noreturn]] void abort(ExitCode code) const;

 private:
  World() = default;
  friend class Counter;
  std::shared_ptr<Heartbeat> heartbeat_;
  std::shared_ptr<const MpiRanks> ranks_;  // none: without MPI
  int rank_ = 0, size_ = 1, local_rank_ = 0, local_size_ = 1;
  int node_ = 0;  // the first rank of this node
};

// Counts up for all ranks of a world: each number goes to one of them, whoever asks first. Rank 0 answers
// from a thread, since MPI by itself does not while that rank computes.
class Counter {
 public:
  explicit Counter(const World& world);  // collective
  ~Counter();                            // not before all ranks have asked for the last time
  Counter(const Counter&) = delete;
  Counter& operator=(const Counter&) = delete;
  int64_t next();  // from 0; by one thread of each rank

 private:
  class Desk;
  std::unique_ptr<Desk> desk_;
};

}  // namespace lab
