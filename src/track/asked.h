#pragma once
// Calls of which several make one thing: the first that fails ends it.

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>

#include "lab/track/clearml_api.h"

namespace lab::detail {

// The answer's data. Throws the ApiError of a call that does not succeed until `end`.
nlohmann::json asked(ClearmlApi& api, const std::string& action, const nlohmann::json& body,
                     std::chrono::steady_clock::time_point end);

}  // namespace lab::detail
