#pragma once
// What World makes communicators of, beside the one of shared.h.

#include <memory>

#include "lab/comm/communicator.h"
#include "lab/core/heartbeat.h"

namespace lab {

// Those ranks of the job that give the same color, in order of rank; null for a negative one. Collective over
// all ranks of the job.
std::unique_ptr<Communicator> mpi_communicator(int color = 0);

// The NCCL backend, or Unavailable that says why not: nccl.cpp or no_nccl.cpp, as the linker was told.
std::unique_ptr<Communicator> nccl_communicator();

// `inner`, with a beat at the begin and the end of each collective. The heartbeat must outlive it.
std::unique_ptr<Communicator> beating(Heartbeat& heartbeat, std::unique_ptr<Communicator> inner);

}  // namespace lab
