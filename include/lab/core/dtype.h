#pragma once
// Element types, named the same in data files, buffers and checkpoints.

#include <cstdint>
#include <string_view>

namespace lab {

enum class DType : uint8_t { u8, i8, u16, i16, u32, i32, u64, i64, f16, bf16, f32, f64, boolean };

int64_t size_of(DType type);                    // bytes of one element
std::string_view name_of(DType type);           // "u8", ..., "bool"
std::string_view safetensors_name(DType type);  // "U8", ..., "BOOL"
bool is_floating(DType type);

}  // namespace lab
