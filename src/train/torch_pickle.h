#pragma once
// Python's pickle machine, as far as torch.save uses it (protocols 2 to 5).

#include <cstddef>
#include <span>

#include "train/torch_objects.h"

namespace lab::detail {

// Runs the program and returns the value it ends with, which lives as long as `objects`. The value is a tree:
// nothing contains itself, it is at most 64 levels deep, shared parts do not blow it up, and no dict has a
// key twice. Throws DataError with the byte and the name of the opcode where that is not so, or the program
// is not sound.
const TorchValue* run_pickle(std::span<const std::byte> program, TorchObjects& objects);

}  // namespace lab::detail
