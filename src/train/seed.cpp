#include "lab/train/seed.h"

#include <ATen/Context.h>

#include <mutex>

namespace lab {

void seed_torch(uint64_t seed, Purpose purpose, uint64_t step, uint64_t leaf, at::Device device) {
  const uint64_t key = random_key(seed, purpose, step, leaf);
  const auto set = [key](at::Device of) {
    at::Generator generator = at::globalContext().defaultGenerator(of);
    const std::lock_guard lock(generator.mutex());
    generator.set_current_seed(key);
  };
  set(at::kCPU);
  if (!device.is_cpu()) set(device);
}

}  // namespace lab
