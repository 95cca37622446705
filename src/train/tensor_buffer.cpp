#include "lab/train/tensor_buffer.h"

#include <array>
#include <utility>

#include "lab/core/error.h"

namespace lab {
namespace {

constexpr std::array<std::pair<DType, at::ScalarType>, 13> types = {{
    {DType::u8, at::kByte},
    {DType::i8, at::kChar},
    {DType::u16, at::kUInt16},
    {DType::i16, at::kShort},
    {DType::u32, at::kUInt32},
    {DType::i32, at::kInt},
    {DType::u64, at::kUInt64},
    {DType::i64, at::kLong},
    {DType::f16, at::kHalf},
    {DType::bf16, at::kBFloat16},
    {DType::f32, at::kFloat},
    {DType::f64, at::kDouble},
    {DType::boolean, at::kBool},
}};

}  // namespace

at::ScalarType scalar_type(DType type) { return types.at(static_cast<size_t>(type)).second; }

DType dtype_of(at::ScalarType type) {
  for (const auto& [ours, theirs] : types)
    if (theirs == type) return ours;
  throw Bug("tensors of type ", c10::toString(type), " are not supported");
}

Buffer as_buffer(const at::Tensor& tensor) {
  if (!tensor.is_contiguous()) throw Bug("a buffer of a tensor that is not contiguous");
  return {tensor.data_ptr(), tensor.numel(), dtype_of(tensor.scalar_type())};
}

}  // namespace lab
