#pragma once
// The C++ types behind DType, so that a loop over elements is written once and compiled for each type.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "lab/core/dtype.h"
#include "lab/core/error.h"

namespace lab::detail {

// A 16-bit float: ExponentBits 5 is IEEE half precision, 8 is bfloat16.
template <int ExponentBits>
struct Float16 {
  uint16_t bits = 0;
  explicit operator double() const {
    constexpr int mantissa_bits = 15 - ExponentBits;
    constexpr int most = (1 << ExponentBits) - 1, bias = most / 2;
    const int exponent = (bits >> mantissa_bits) & most;
    const int mantissa = bits & ((1 << mantissa_bits) - 1);
    const double sign = bits >> 15 ? -1.0 : 1.0;
    if (exponent == most) return mantissa ? std::nan("") : sign * HUGE_VAL;
    const int whole =
        exponent ? mantissa | (1 << mantissa_bits) : mantissa;  // without the leading one: subnormal
    return sign * std::ldexp(whole, std::max(exponent, 1) - bias - mantissa_bits);
  }
};

// Calls `function` with a value of the C++ type that stands for `type`; a bool is a byte.
template <class Function>
decltype(auto) visit_type(DType type, Function&& function) {
  switch (type) {
    case DType::u8:
    case DType::boolean:
      return function(uint8_t{});
    case DType::i8:
      return function(int8_t{});
    case DType::u16:
      return function(uint16_t{});
    case DType::i16:
      return function(int16_t{});
    case DType::u32:
      return function(uint32_t{});
    case DType::i32:
      return function(int32_t{});
    case DType::u64:
      return function(uint64_t{});
    case DType::i64:
      return function(int64_t{});
    case DType::f16:
      return function(Float16<5>{});
    case DType::bf16:
      return function(Float16<8>{});
    case DType::f32:
      return function(float{});
    case DType::f64:
      return function(double{});
  }
  throw Bug("element type ", static_cast<int>(type));
}

// Turns elements of `size` bytes from one byte order into the other, in place.
inline void swap_byte_order(std::span<std::byte> bytes, size_t size) {
  for (size_t i = 0; i + size <= bytes.size(); i += size)
    for (size_t low = 0, high = size - 1; low < high; ++low, --high)
      std::swap(bytes[i + low], bytes[i + high]);
}

}  // namespace lab::detail
