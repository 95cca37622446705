#include "lab/device/device.h"

#include "lab/core/error.h"

namespace lab {

std::string instruction_set() {
  if (__builtin_cpu_supports("avx512f")) return "AVX-512";
  if (__builtin_cpu_supports("avx2")) return "AVX2";
  return "baseline";
}

namespace {

std::string list_of(const std::vector<Device>& gpus) {
  std::vector<std::string> names;
  for (const Device& gpu : gpus) names.push_back(gpu.description);
  return gpus.empty() ? "none" : join(names, "; ");
}

// Those of these indices.
std::vector<Device> those(const std::vector<Device>& gpus, std::span<const int> only) {
  std::vector<Device> some;
  for (const int index : only) {
    if (index < 0 || index >= static_cast<int>(gpus.size()))
      throw ConfigError("-g asks for GPU ", index,
                        ", but the GPUs that this process sees are: ", list_of(gpus),
                        "; CUDA_VISIBLE_DEVICES and Slurm may hide others");
    some.push_back(gpus[static_cast<size_t>(index)]);
  }
  return some;
}

}  // namespace

Device choose_device(const std::string& accelerator, std::span<const int> only, int local_rank) {
  if (accelerator == "cpu") return {.description = "CPU, " + instruction_set()};
  const auto visible = visible_gpus();
  if (!visible.empty()) {
    const auto gpus = only.empty() ? visible : those(visible, only);
    return gpus[static_cast<size_t>(local_rank) % gpus.size()];
  }
  if (accelerator == "gpu")
    throw Unavailable(
        "trainer.init.accelerator = \"gpu\", but this build or this machine has no GPU that can be used; use "
        "\"auto\" or \"cpu\"");
  if (!only.empty())
    throw Unavailable(
        "-g asks for GPUs, but this build or this machine has none that can be used; leave it out");
  return {.description = "CPU, " + instruction_set()};
}

}  // namespace lab
