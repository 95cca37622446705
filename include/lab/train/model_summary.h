#pragma once
// What a model is made of, for people.

#include <torch/nn/module.h>

#include <string>
#include <vector>

namespace lab {

// A line for each layer that has parameters of its own (name, kind, their shapes and how many numbers they
// are; frozen ones say so), then the totals and what they take in memory. At most 78 columns.
std::vector<std::string> model_summary(const torch::nn::Module& module);

}  // namespace lab
