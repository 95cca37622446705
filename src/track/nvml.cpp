#include "track/nvml.h"

#include "lab/core/library.h"
#include "lab/core/text.h"

namespace lab::detail {
namespace {

constexpr double gib = 1024.0 * 1024 * 1024;
constexpr int on_the_gpu = 0;  // the sensor

}  // namespace

std::unique_ptr<Nvml> Nvml::open(const std::string& name) {
  void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return nullptr;
  NvmlFunctions call;
  const bool whole = find(library, "nvmlInit_v2", call.init) &&
                     find(library, "nvmlShutdown", call.shutdown) &&
                     find(library, "nvmlDeviceGetCount_v2", call.count) &&
                     find(library, "nvmlDeviceGetHandleByIndex_v2", call.device) &&
                     find(library, "nvmlDeviceGetTemperature", call.temperature) &&
                     find(library, "nvmlDeviceGetUtilizationRates", call.utilization) &&
                     find(library, "nvmlDeviceGetMemoryInfo", call.memory) &&
                     find(library, "nvmlDeviceGetPowerUsage", call.power);
  if (whole) return with(call, library);
  dlclose(library);
  return nullptr;
}

std::unique_ptr<Nvml> Nvml::with(const NvmlFunctions& functions, void* library) {
  if (functions.init() == 0) return std::unique_ptr<Nvml>(new Nvml(functions, library));
  if (library != nullptr) dlclose(library);
  return nullptr;
}

Nvml::~Nvml() {
  call_.shutdown();
  if (library_ != nullptr) dlclose(library_);
}

std::vector<GpuUse> Nvml::sample() const {
  std::vector<GpuUse> found;
  unsigned int count = 0;
  if (call_.count(&count) != 0) return found;
  for (unsigned int i = 0; i < count; ++i) {
    NvmlDevice device = nullptr;
    if (call_.device(i, &device) != 0) continue;
    const auto add = [&](const char* what, double value) {
      found.push_back({text("gpu_", i, '_', what), value});
    };
    unsigned int number = 0;
    NvmlUtilization use{};
    NvmlMemory memory{};
    if (call_.temperature(device, on_the_gpu, &number) == 0) add("temperature", number);
    if (call_.utilization(device, &use) == 0) add("utilization", use.gpu);
    if (call_.memory(device, &memory) == 0 && memory.total > 0) {
      add("mem_used_gb", static_cast<double>(memory.used) / gib);
      add("mem_free_gb", static_cast<double>(memory.free) / gib);
      add("mem_usage", 100 * static_cast<double>(memory.used) / static_cast<double>(memory.total));
    }
    if (call_.power(device, &number) == 0) add("power_draw", number / 1000.0);
  }
  return found;
}

}  // namespace lab::detail
