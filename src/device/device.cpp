#include "lab/device/device.h"

#include "lab/core/error.h"

namespace lab {

std::string instruction_set() {
  if (__builtin_cpu_supports("avx512f")) return "AVX-512";
  if (__builtin_cpu_supports("avx2")) return "AVX2";
  return "baseline";
}

Device choose_device(const std::string& accelerator, int local_rank) {
  const auto gpus = visible_gpus();
  if (accelerator == "cpu" || (accelerator == "auto" && gpus.empty()))
    return {Device::Kind::cpu, 0, "CPU, " + instruction_set()};
  if (gpus.empty())
    throw Unavailable(
        "trainer.init.accelerator = \"gpu\", but this build or this machine has no GPU that can be used; use "
        "\"auto\" or \"cpu\"");
  return gpus[static_cast<size_t>(local_rank) % gpus.size()];
}

}  // namespace lab
