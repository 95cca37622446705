#pragma once
// The MPI backend, and what else is asked of MPI.

#include <memory>

#include "lab/comm/communicator.h"
#include "lab/core/heartbeat.h"

namespace lab {
// Beats at the begin and the end of each collective. The heartbeat must outlive it.
std::unique_ptr<Communicator> mpi_communicator(Heartbeat& heartbeat);

// The NCCL backend, or Unavailable that says why not: nccl.cpp or no_nccl.cpp, as the linker was told.
std::unique_ptr<Communicator> nccl_communicator();
}  // namespace lab
