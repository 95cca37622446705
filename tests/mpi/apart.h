#pragma once
// Ranks that do not see each other's memory, as those of several nodes.

#include "forwarding.h"

class Apart final : public lab::test::Forwarding {
 public:
  using Forwarding::Forwarding;
  lab::BufferMemory allocate(int64_t bytes) override { return lab::plain_memory(bytes); }
  std::vector<std::vector<lab::Buffer>> view(std::span<const lab::Buffer>) override { return {}; }
};
