#include "comm/fold.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "lab/comm/wide.h"
#include "lab/core/error.h"

namespace lab {
namespace {

constexpr int64_t line_bytes = 64;
constexpr int64_t block_bytes = 4096;  // stays in the nearest cache while all ranks' parts pass through it

// Numbers in a register, which operators of the language take one by one.
template <class T, size_t bytes>
using Vector [[gnu::vector_size(bytes)]] = T;

// Of vectors and of single numbers.
struct Sum {
  template <class V>
  void operator()(V& a, const V& b) const {
    a = static_cast<V>(a + b);
  }
};
struct Min {
  template <class V>
  void operator()(V& a, const V& b) const {
    a = b < a ? b : a;
  }
};
struct Max {
  template <class V>
  void operator()(V& a, const V& b) const {
    a = a < b ? b : a;
  }
};

template <class V, class T, class Op, class... To>
void combine_at(int64_t i, const T* left, const T* right, Op op, To*... to) {
  V a, b;
  std::memcpy(&a, left + i, sizeof a);
  std::memcpy(&b, right + i, sizeof b);
  op(a, b);
  (std::memcpy(to + i, &a, sizeof a), ...);
}

// What another rank wrote, and this one only reads, stays in that one's cache.
template <bool to_write, class T>
void fetch(const T* numbers, int64_t ahead) {
  __builtin_prefetch(reinterpret_cast<const char*>(numbers) + ahead, to_write);
}

// Each `to` becomes left op right, which it may be the same as. `ahead`: bytes behind what is read that will
// be read soon. Hardware alone fetches no further than to the end of a page.
template <size_t bytes, class T, class Op, class... To>
void combine(const T* left, const T* right, int64_t n, int64_t ahead, Op op, To*... to) {
  using V = Vector<T, bytes>;
  constexpr int64_t line = line_bytes / static_cast<int64_t>(sizeof(T));
  int64_t i = 0;
  for (; i + line <= n; i += line) {
    (fetch<true>(to + i, ahead), ...);
    fetch<false>(left + i, ahead);
    fetch<false>(right + i, ahead);
    for (int64_t k = i; k < i + line; k += bytes / sizeof(T)) combine_at<V>(k, left, right, op, to...);
  }
  for (; i < n; ++i) combine_at<T>(i, left, right, op, to...);
}

template <size_t bytes, class T, class Op>
void fold_block(std::span<const Buffer> in, std::span<const Buffer> out, int64_t first, int64_t n, Op op) {
  alignas(64) std::array<T, block_bytes / sizeof(T)> sums;
  const auto at = [first](const Buffer& b) { return static_cast<T*>(b.data) + first; };
  const int64_t ahead = first + n < in[0].count ? block_bytes : 0;  // not into what other ranks write
  const T* left = at(in[0]);
  for (const Buffer& b : in.subspan(1, in.size() - 2)) {
    combine<bytes>(left, at(b), n, ahead, op, sums.data());
    left = sums.data();
  }
  if (out.size() == 1) return combine<bytes>(left, at(in.back()), n, ahead, op, at(out[0]));
  combine<bytes>(left, at(in.back()), n, ahead, op, at(out[0]), at(out[1]));
  for (const Buffer& b : out.subspan(2)) std::copy_n(at(out[0]), n, at(b));
}

template <class T, class Op>
void fold_as(std::span<const Buffer> in, std::span<const Buffer> out, Op op) {
  constexpr int64_t most = block_bytes / static_cast<int64_t>(sizeof(T));
  work_in_wide_vectors([&](auto bytes) {
    for (int64_t first = 0; first < in.front().count; first += most)
      fold_block<bytes(), T>(in, out, first, std::min(most, in.front().count - first), op);
  });
}

void copy_to_all(const Buffer& from, std::span<const Buffer> out) {
  for (const Buffer& to : out)
    if (to.data != from.data && from.count > 0)
      std::memcpy(to.data, from.data, static_cast<size_t>(from.bytes()));
}

template <class T>
void fold_as(ReduceOp op, std::span<const Buffer> in, std::span<const Buffer> out) {
  if (in.size() == 1) return copy_to_all(in.front(), out);
  switch (op) {
    case ReduceOp::min:
      return fold_as<T>(in, out, Min());
    case ReduceOp::max:
      return fold_as<T>(in, out, Max());
    default:
      return fold_as<T>(in, out, Sum());
  }
}

template <class T>
void add_as(const Buffer& into, const Buffer& left, const Buffer& right) {
  const auto at = [](const Buffer& b) { return static_cast<T*>(b.data); };
  work_in_wide_vectors(
      [&](auto bytes) { combine<bytes()>(at(left), at(right), into.count, 0, Sum(), at(into)); });
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
