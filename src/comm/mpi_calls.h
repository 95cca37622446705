#pragma once
// MPI's calls as lab makes them: errors thrown, and waits that leave the core to others.

#include <mpi.h>

#include <chrono>
#include <vector>

#include "lab/comm/communicator.h"

namespace lab {

// Throws IoError for any code but MPI_SUCCESS.
void check_mpi(int code, const char* operation);

// The ranks of a World.
struct MpiRanks {
  MPI_Comm comm = MPI_COMM_NULL;
};

// Those ranks that give the same color, in their order; MPI_COMM_NULL for a negative one. Collective.
MPI_Comm split(MPI_Comm comm, int color);

// Throws Bug for a type that the backend does not carry.
MPI_Datatype mpi_type(DType type);

constexpr int64_t most_elements = int64_t{1} << 30;  // of one call, as MPI's counts are ints

// A message under way. The buffer, of most_elements at most, must outlive it. Throws IoError.
MPI_Request begin_receive(MPI_Comm comm, Buffer to, int from, int tag);
MPI_Request begin_send(MPI_Comm comm, Buffer from, int to, int tag);

// When what is waited for began: one wait may be a part of a longer one, whose looks go on at its pace.
using Start = std::chrono::steady_clock::time_point;

// Until all are done; progress is made by this alone. Throws IoError.
void wait_all(std::vector<MPI_Request>& requests, const char* operation,
              Start start = std::chrono::steady_clock::now());

}  // namespace lab
