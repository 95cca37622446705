#pragma once
// What World makes communicators of, beside the one of shared.h.

#include <memory>

#include "lab/comm/communicator.h"
#include "lab/core/heartbeat.h"

namespace lab {

struct MpiRanks;

// Those ranks of the job that give the same color, in order of rank; null for a negative one. Collective over
// all ranks of the job. Without a job: all that MPI has.
std::unique_ptr<Communicator> mpi_communicator(const MpiRanks& job, int color);
std::unique_ptr<Communicator> mpi_communicator(int color = 0);

// The NCCL backend for buffers in the memory of this thread's GPU (use_gpu), each rank with one of its own;
// `host` brings the ranks together, and takes all other buffers. Unavailable, on all ranks alike, says why
// not. In nccl.cpp or no_nccl.cpp, as the linker was told. Collective.
std::unique_ptr<Communicator> nccl_communicator(std::unique_ptr<Communicator> host);

// Memory of this thread's GPU, for Communicator::allocate().
BufferMemory device_allocation(int64_t bytes);

// `inner`, with a beat at the begin and the end of each collective. The heartbeat must outlive it.
std::unique_ptr<Communicator> beating(Heartbeat& heartbeat, std::unique_ptr<Communicator> inner);
// And back, if it is such a one.
std::unique_ptr<Communicator> unbeaten(std::unique_ptr<Communicator> group);

}  // namespace lab
