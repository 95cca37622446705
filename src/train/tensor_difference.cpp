#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "lab/core/error.h"
#include "lab/train/weights_file.h"

namespace lab {
namespace {

float from_bfloat16(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

double from_float16(uint16_t bits) {
  const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
  const double size = exponent == 31  ? (fraction ? std::nan("") : INFINITY)
                      : exponent == 0 ? std::ldexp(fraction, -24)
                                      : std::ldexp(1024 + fraction, exponent - 25);
  return bits & 0x8000 ? -size : size;
}

// One element exactly: 64 bits of mantissa hold every integer.
using Exact = long double;

template <class Stored>
Stored stored_at(const TensorView& tensor, int64_t index) {
  Stored out;  // it may lie at any address
  std::memcpy(&out, static_cast<const std::byte*>(tensor.data) + static_cast<size_t>(index) * sizeof out,
              sizeof out);
  return out;
}

Exact element(const TensorView& tensor, int64_t index) {
  switch (tensor.type) {
    case DType::u8:
    case DType::boolean:
      return stored_at<uint8_t>(tensor, index);
    case DType::i8:
      return stored_at<int8_t>(tensor, index);
    case DType::u16:
      return stored_at<uint16_t>(tensor, index);
    case DType::i16:
      return stored_at<int16_t>(tensor, index);
    case DType::u32:
      return stored_at<uint32_t>(tensor, index);
    case DType::i32:
      return stored_at<int32_t>(tensor, index);
    case DType::u64:
      return static_cast<Exact>(stored_at<uint64_t>(tensor, index));
    case DType::i64:
      return static_cast<Exact>(stored_at<int64_t>(tensor, index));
    case DType::f16:
      return from_float16(stored_at<uint16_t>(tensor, index));
    case DType::bf16:
      return from_bfloat16(stored_at<uint16_t>(tensor, index));
    case DType::f32:
      return stored_at<float>(tensor, index);
    case DType::f64:
      return stored_at<double>(tensor, index);
  }
  return 0;
}

}  // namespace

TensorDifference difference(const TensorView& a, const TensorView& b) {
  if (a.type != b.type || a.shape != b.shape)
    throw Bug("tensors of different types or shapes are compared: ", quoted(a.name), " and ", quoted(b.name));
  const int64_t bytes = byte_count(a.type, a.shape).value(), elements = bytes / size_of(a.type);
  TensorDifference out;
  out.same_bits = bytes == 0 || std::memcmp(a.data, b.data, static_cast<size_t>(bytes)) == 0;
  if (out.same_bits) return out;
  Exact largest = 0;
  for (int64_t i = 0; i < elements; ++i) {
    const Exact left = element(a, i), right = element(b, i);
    if (left == right || (std::isnan(left) && std::isnan(right))) continue;
    if (std::isnan(left) || std::isnan(right)) {
      out.largest = std::nan("");
      return out;
    }
    largest = std::max(largest, std::fabs(left - right));
  }
  out.largest = static_cast<double>(largest);
  return out;
}

}  // namespace lab
