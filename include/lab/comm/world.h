#pragma once
// All processes of the job: joined once at the start, left once at the end.

#include <memory>
#include <string>

#include "lab/comm/communicator.h"
#include "lab/core/error.h"
#include "lab/core/heartbeat.h"
#include "lab/core/log.h"

namespace lab {

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

  // A group of all ranks; this must outlive it. automatic: self for one rank, else memory that the ranks of a
  // node share, with MPI between nodes; where a node refuses that, a warning, and mpi: MPI alone. Throws
  // UsageError for self among several ranks, and for nccl where no GPU can be used an AgreedError
  // (unavailable); the same on every rank. Collective.
  std::unique_ptr<Communicator> communicator(Backend backend, const Log& log) const;

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
  std::unique_ptr<Heartbeat> heartbeat_;
  bool by_mpi_ = false;
  int rank_ = 0, size_ = 1, local_rank_ = 0, local_size_ = 1;
  int node_ = 0;  // the first rank of this node
};

}  // namespace lab
