#pragma once
// What must hold for the values of a file before they are handed out.

#include <cstdint>
#include <string_view>

#include "lab/train/torch_file.h"

namespace lab::detail {

// Nothing contains itself; at most 64 levels; walked through as a tree, shared parts once per place, it has
// not many more values than the `program_bytes` that made it; no dict has a text or a number twice as key; no
// type, function or storage is left. Throws DataError.
void check_tree(const TorchValue& root, uint64_t program_bytes);

bool is_utf8(std::string_view text);

}  // namespace lab::detail
