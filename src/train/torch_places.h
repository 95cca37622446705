#pragma once
// The values of a torch file one by one, each with its place: "optimizer_states[0].lr".

#include <functional>
#include <string>

#include "lab/train/torch_file.h"

namespace lab::detail {

// Calls `seen` for every value that is no container, and for containers of a few plain values, in order.
// Throws DataError where the places together are absurdly long.
void visit_places(const TorchValue& root,
                  const std::function<void(const std::string& place, const TorchValue&)>& seen);

// One line, of bounded length: "0.5", "\"adam\"", "[5, 8]", "40 bytes".
std::string in_words(const TorchValue& value);

}  // namespace lab::detail
