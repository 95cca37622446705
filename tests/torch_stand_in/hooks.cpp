// What torch asks a device for beside its operators, and what is counted.

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "torch_stand_in/stand_in.h"

namespace torch_stand_in {
namespace {

constexpr std::array names = {"item", "to_device", "to_host", "synchronize", "result", "event"};
std::array<std::atomic<int64_t>, names.size()> counts;

void write_counts() {
  const char *path = std::getenv("TORCH_STAND_IN_LOG"), *rank = std::getenv("OMPI_COMM_WORLD_RANK");
  if (!path) return;
  std::FILE* file = std::fopen((std::string(path) + '.' + (rank ? rank : "0")).c_str(), "w");
  if (!file) return;
  for (size_t i = 0; i < names.size(); ++i)
    std::fprintf(file, "%s %lld\n", names[i], static_cast<long long>(counts[i]));
  std::fclose(file);
}

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return devices; }
  void setCurrentDevice(c10::DeviceIndex device) const override { exchangeDevice(device); }
  c10::DeviceIndex getCurrentDevice() const override { return guard().getDevice().index(); }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex device) const override {
    return guard().exchangeDevice({c10::kPrivateUse1, device}).index();
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex device) const override {
    return device < 0 ? getCurrentDevice() : exchangeDevice(device);
  }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex device) const override {
    return default_generator(device < 0 ? getCurrentDevice() : device);
  }
  at::Generator getNewGenerator(c10::DeviceIndex) const override { return at::detail::createCPUGenerator(); }
  at::Device getDeviceFromPtr(void* address) const override { return device_at(address); }
  bool isPinnedPtr(const void* address) const override { return is_pinned(address); }
  at::Allocator* getPinnedMemoryAllocator() const override { return pinned_allocator(); }

 private:
  static const c10::impl::DeviceGuardImplInterface& guard() {
    return *c10::impl::getDeviceGuardImpl(c10::kPrivateUse1);
  }
};

struct Registered {
  Registered() {
    c10::register_privateuse1_backend("privateuseone");  // its own name; but only then it is an accelerator
    at::RegisterPrivateUse1HooksInterface(new Hooks);
    std::atexit(write_counts);
  }
} registered;

}  // namespace

int64_t count(Wait kind) { return counts[static_cast<size_t>(kind)]; }

void counted(Wait kind, const std::string& what) {
  static const bool trace = std::getenv("TORCH_STAND_IN_TRACE") != nullptr;
  counts[static_cast<size_t>(kind)] += 1;
  if (trace) std::fprintf(stderr, "torch stand-in: %s: %s\n", names[static_cast<size_t>(kind)], what.c_str());
}

void violation(const std::string& rule) {
  std::fprintf(stderr, "torch stand-in: %s\n", rule.c_str());
  std::abort();
}

// A processor's, as are the operators that draw from it.
const at::Generator& default_generator(c10::DeviceIndex device) {
  static const auto& all = *new std::vector<at::Generator>([] {
    std::vector<at::Generator> list;
    for (int i = 0; i < devices; ++i) list.push_back(at::detail::createCPUGenerator());
    return list;
  }());
  return all.at(static_cast<size_t>(device));
}

}  // namespace torch_stand_in
