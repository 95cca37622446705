#pragma once
// What the writer and the reader of safetensors files agree on.

#include <cstdint>
#include <string>
#include <string_view>

namespace lab::detail {

// How the header of every file of lab begins; 16 digits follow. At a fixed place, so that no text in the
// metadata can be taken for it.
constexpr std::string_view header_start = R"({"__metadata__":{"lab.header":")";
constexpr std::string_view no_digits = "0000000000000000";

// The checksum of a header that begins so, as if its digits were zeros.
std::string header_checksum(std::string header);

}  // namespace lab::detail
