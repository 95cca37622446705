#pragma once
// Patterns that authors choose parameters by, and what is said of one that chooses nothing.

#include <torch/nn/module.h>

#include <span>
#include <string>

namespace lab {

// Throws ConfigError where one of them matches no parameter: "`whose` a pattern ...", with the nearest names.
void require_matches(std::span<const std::string> patterns, const torch::nn::Module& module,
                     const std::string& whose);

}  // namespace lab
