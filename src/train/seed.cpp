#include "lab/train/seed.h"

#include <ATen/CPUGeneratorImpl.h>

namespace lab {

void seed_torch(uint64_t seed, Purpose purpose, uint64_t step, uint64_t leaf) {
  auto generator = at::detail::getDefaultCPUGenerator();
  const std::lock_guard lock(generator.mutex());
  generator.set_current_seed(random_key(seed, purpose, step, leaf));
}

}  // namespace lab
