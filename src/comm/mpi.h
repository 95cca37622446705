#pragma once
// The MPI backend, and what else is asked of MPI.

#include <memory>

#include "lab/comm/communicator.h"

namespace lab {
std::unique_ptr<Communicator> mpi_communicator();

// The NCCL backend, or Unavailable that says why not: nccl.cpp or no_nccl.cpp, as the linker was told.
std::unique_ptr<Communicator> nccl_communicator();
}  // namespace lab
