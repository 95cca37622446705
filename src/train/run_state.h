#pragma once
// RunState as the text that a checkpoint carries in its metadata.

#include <string>

#include "lab/train/checkpoint.h"

namespace lab {

std::string to_json(const RunState& state);
// Throws DataError for what is not such a text, or of a newer format.
RunState run_state_from_json(const std::string& json);

}  // namespace lab
