#include "train/torch_types.h"

#include <array>

namespace lab::detail {
namespace {

struct Names {
  DType type;
  std::string_view torch, storage;
};

constexpr std::array<Names, 13> names = {{
    {DType::u8, "torch.uint8", "ByteStorage"},
    {DType::i8, "torch.int8", "CharStorage"},
    {DType::u16, "torch.uint16", ""},
    {DType::i16, "torch.int16", "ShortStorage"},
    {DType::u32, "torch.uint32", ""},
    {DType::i32, "torch.int32", "IntStorage"},
    {DType::u64, "torch.uint64", ""},
    {DType::i64, "torch.int64", "LongStorage"},
    {DType::f16, "torch.float16", "HalfStorage"},
    {DType::bf16, "torch.bfloat16", "BFloat16Storage"},
    {DType::f32, "torch.float32", "FloatStorage"},
    {DType::f64, "torch.float64", "DoubleStorage"},
    {DType::boolean, "torch.bool", "BoolStorage"},
}};

const Names& of(DType type) { return names.at(static_cast<size_t>(type)); }

}  // namespace

std::string torch_name(DType type) { return std::string(of(type).torch); }

std::string_view storage_class(DType type) { return of(type).storage; }

std::optional<DType> type_from_torch_name(std::string_view name) {
  for (const Names& known : names)
    if (known.torch == name) return known.type;
  return std::nullopt;
}

std::optional<DType> type_of_storage_class(std::string_view name) {
  for (const Names& known : names)
    if (!known.storage.empty() && known.storage == name) return known.type;
  return std::nullopt;
}

}  // namespace lab::detail
