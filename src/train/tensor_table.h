#pragma once
// What is in tensors, for people who look for a mistake.

#include <string>
#include <vector>

#include "lab/train/flat.h"
#include "lab/train/parts.h"

namespace lab {

// A row for each: name, type, shape, smallest, greatest and mean value, and how many are not finite. What is
// undefined has none of these. Waits for a GPU.
std::string tensor_table(const std::vector<NamedTensor>& tensors);

}  // namespace lab
