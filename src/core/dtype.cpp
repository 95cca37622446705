#include "lab/core/dtype.h"

#include <array>

namespace lab {
namespace {

struct Properties {
  int64_t bytes;
  std::string_view name, safetensors;
  bool floating;
};

constexpr std::array<Properties, 13> properties = {{
    {1, "u8", "U8", false},
    {1, "i8", "I8", false},
    {2, "u16", "U16", false},
    {2, "i16", "I16", false},
    {4, "u32", "U32", false},
    {4, "i32", "I32", false},
    {8, "u64", "U64", false},
    {8, "i64", "I64", false},
    {2, "f16", "F16", true},
    {2, "bf16", "BF16", true},
    {4, "f32", "F32", true},
    {8, "f64", "F64", true},
    {1, "bool", "BOOL", false},
}};

const Properties& of(DType type) { return properties.at(static_cast<size_t>(type)); }

}  // namespace

int64_t size_of(DType type) { return of(type).bytes; }
std::string_view name_of(DType type) { return of(type).name; }
std::string_view safetensors_name(DType type) { return of(type).safetensors; }
bool is_floating(DType type) { return of(type).floating; }

}  // namespace lab
