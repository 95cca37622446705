#pragma once
// What those who write and read safetensors files agree on.

#include <cstdint>
#include <string>
#include <string_view>

namespace lab::detail {

// How the header of every file of lab begins; 16 digits follow. At a fixed place, so that no text in the
// metadata can be taken for it.
constexpr std::string_view header_start = R"({"__metadata__":{"lab.header":")";
constexpr std::string_view no_digits = "0000000000000000";

// Whether a tensor of this name is the model's; others are what a run keeps beside it.
inline bool belongs_to_model(std::string_view name) { return !name.starts_with("lab."); }

// The checksum of a header that begins so, as if its digits were zeros.
std::string header_checksum(std::string header);

}  // namespace lab::detail
