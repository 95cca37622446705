#include "comm/backends.h"
#include "lab/core/error.h"

namespace lab {

std::unique_ptr<Communicator> nccl_communicator(std::unique_ptr<Communicator>) {
  throw Unavailable(
      "--backend nccl: this build has no NCCL; use --backend auto, or build it with the preset cuda");
}

}  // namespace lab
