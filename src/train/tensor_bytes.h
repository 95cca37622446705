#pragma once
// What readers and writers of tensor files share.

#include <unistd.h>

#include <cstddef>
#include <span>

#include "lab/core/error.h"
#include "lab/train/safetensors.h"

namespace lab::detail {

// Closed at its end.
struct Descriptor {
  int fd;
  explicit Descriptor(int fd_) : fd(fd_) {}
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
};

// The array that a view names. Throws Bug for a shape that no array has.
inline std::span<const std::byte> bytes_of(const TensorView& tensor) {
  const auto bytes = byte_count(tensor.type, tensor.shape);
  if (!bytes)
    throw Bug("the shape of tensor ", lab::quoted(tensor.name), " has a negative or an absurd dimension");
  return {static_cast<const std::byte*>(tensor.data), static_cast<size_t>(*bytes)};
}

}  // namespace lab::detail
