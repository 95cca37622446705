#pragma once
// MPI's calls as lab makes them: errors thrown, and waits that leave the core to others.

#include <mpi.h>

#include <vector>

#include "lab/comm/communicator.h"

namespace lab {

// Throws IoError for any code but MPI_SUCCESS.
void check_mpi(int code, const char* operation);

// Throws Bug for a type that the backend does not carry.
MPI_Datatype mpi_type(DType type);

// Until all are done; progress is made by this alone. Throws IoError.
void wait_all(std::vector<MPI_Request>& requests, const char* operation);

}  // namespace lab
