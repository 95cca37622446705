#include "comm/fold.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "lab/core/error.h"

namespace lab {
namespace {

constexpr int64_t block_bytes = 4096;  // stays in the nearest cache while all ranks' parts pass through it

template <class T>
struct Sum {
  T operator()(T a, T b) const { return static_cast<T>(a + b); }
};
template <class T>
struct Min {
  T operator()(T a, T b) const { return b < a ? b : a; }
};
template <class T>
struct Max {
  T operator()(T a, T b) const { return a < b ? b : a; }
};

// Plain loops over memory that does not overlap: the compiler makes vector instructions of them.
template <class T, class Op>
void combine(T* __restrict into, const T* __restrict left, const T* __restrict right, int64_t n, Op op) {
  for (int64_t i = 0; i < n; ++i) into[i] = op(left[i], right[i]);
}
template <class T, class Op>
void combine(T* __restrict into, const T* __restrict right, int64_t n, Op op) {
  for (int64_t i = 0; i < n; ++i) into[i] = op(into[i], right[i]);
}

template <class T, class Op>
void fold_as(std::span<const Buffer> in, std::span<const Buffer> out, Op op) {
  constexpr int64_t most = block_bytes / static_cast<int64_t>(sizeof(T));
  alignas(64) std::array<T, most> block;
  for (int64_t first = 0; first < in.front().count; first += most) {
    const int64_t n = std::min(most, in.front().count - first);
    const auto part = [first](const Buffer& b) { return static_cast<T*>(b.data) + first; };
    if (in.size() == 1)
      std::copy_n(part(in[0]), n, block.data());
    else
      combine(block.data(), part(in[0]), part(in[1]), n, op);
    for (size_t k = 2; k < in.size(); ++k) combine(block.data(), part(in[k]), n, op);
    for (const Buffer& b : out) std::copy_n(block.data(), n, part(b));
  }
}

template <class T>
void fold_as(ReduceOp op, std::span<const Buffer> in, std::span<const Buffer> out) {
  switch (op) {
    case ReduceOp::min:
      return fold_as<T>(in, out, Min<T>());
    case ReduceOp::max:
      return fold_as<T>(in, out, Max<T>());
    default:
      return fold_as<T>(in, out, Sum<T>());
  }
}

template <class T>
void add_as(const Buffer& into, const Buffer& left, const Buffer& right) {
  const auto at = [](const Buffer& b) { return static_cast<T*>(b.data); };
  if (into.data == left.data)
    combine(at(into), at(right), into.count, Sum<T>());
  else
    combine(at(into), at(left), at(right), into.count, Sum<T>());
}

}  // namespace

void fold(ReduceOp op, std::span<const Buffer> in, std::span<const Buffer> out) {
  switch (in.front().type) {
    case DType::u8:
      return fold_as<uint8_t>(op, in, out);
    case DType::i64:
      return fold_as<int64_t>(op, in, out);
    case DType::f32:
      return fold_as<float>(op, in, out);
    case DType::f64:
      return fold_as<double>(op, in, out);
    default:
      throw Bug("elements of type ", name_of(in.front().type), " cannot be reduced");
  }
}

void add(const Buffer& into, const Buffer& left, const Buffer& right) {
  if (into.type == DType::f32)
    add_as<float>(into, left, right);
  else if (into.type == DType::f64)
    add_as<double>(into, left, right);
  else
    throw Bug("a tree sum of ", name_of(into.type));
}

}  // namespace lab
