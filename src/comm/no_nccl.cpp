#include "comm/backends.h"
#include "lab/core/error.h"

namespace lab {

std::unique_ptr<Communicator> nccl_communicator() {
  throw Unavailable(
      "--backend nccl: this build has no NCCL and no GPU to use it with; use --backend auto (MPI on CPUs), ",
      "or build lab for CUDA on a machine with a GPU");
}

}  // namespace lab
