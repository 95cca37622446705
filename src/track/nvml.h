#pragma once
// NVIDIA's management library, where a machine has it: found when the program runs, never linked.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace lab::detail {

using NvmlDevice = void*;

struct NvmlMemory {
  unsigned long long total, free, used;  // bytes
};
struct NvmlUtilization {
  unsigned int gpu, memory;  // percent
};

// The library's functions that we call; each returns 0 when it has succeeded.
struct NvmlFunctions {
  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  int (*count)(unsigned int*) = nullptr;
  int (*device)(unsigned int, NvmlDevice*) = nullptr;
  int (*temperature)(NvmlDevice, int sensor, unsigned int*) = nullptr;  // Celsius
  int (*utilization)(NvmlDevice, NvmlUtilization*) = nullptr;
  int (*memory)(NvmlDevice, NvmlMemory*) = nullptr;
  int (*power)(NvmlDevice, unsigned int*) = nullptr;  // milliwatts
};

struct GpuUse {
  std::string name;  // "gpu_0_utilization"
  double value = 0;
};

// Keeps the library in use as long as it lives. For one thread; nothing throws.
class Nvml {
 public:
  // nullptr: no such library, not all of its functions, or no driver.
  static std::unique_ptr<Nvml> open(const std::string& library = "libnvidia-ml.so.1");
  static std::unique_ptr<Nvml> with(const NvmlFunctions& functions, void* library = nullptr);
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  // What each GPU tells of itself; what it does not tell is left out.
  std::vector<GpuUse> sample() const;

 private:
  Nvml(const NvmlFunctions& functions, void* library) : call_(functions), library_(library) {}
  NvmlFunctions call_;
  void* library_;
};

}  // namespace lab::detail
