#pragma once
// Named tensors: what goes into a model and what comes out.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lab {

// Tensors by name, in order. One tensor alone is a Parts with one nameless entry.
class Parts {
 public:
  Parts() = default;
  Parts(at::Tensor tensor) { entries_.emplace_back("", std::move(tensor)); }  // NOLINT: a tensor is a Parts
  void add(std::string name, at::Tensor tensor) { entries_.emplace_back(std::move(name), std::move(tensor)); }
  bool has(std::string_view name) const;
  const at::Tensor& operator[](std::string_view name) const;  // throws ConfigError naming the parts there are
  const at::Tensor& only() const;  // the one tensor; throws ConfigError when there are more
  const std::vector<std::pair<std::string, at::Tensor>>& entries() const { return entries_; }

 private:
  std::vector<std::pair<std::string, at::Tensor>> entries_;
};

// A micro-batch or chunk: parts of shape (count, ...), and which samples they are. count may be 0.
struct Batch {
  Parts parts;
  std::vector<int64_t> ids;  // file index of each sample
  int64_t count() const { return static_cast<int64_t>(ids.size()); }
  const at::Tensor& operator[](std::string_view name) const { return parts[name]; }
};

}  // namespace lab
