#pragma once
// Where the parameters of a loss are: with the model's, as a child of its module, under a name of their own
// in checkpoints.

#include <string>
#include <vector>

#include "lab/train/safetensors.h"

namespace lab {

constexpr const char* loss_child = "lab_loss";

bool is_of_loss(const std::string& name);                 // "lab_loss.temperature", in the module
std::string saved_name_of_loss(const std::string& name);  // "lab.loss.temperature", in the file
// What the file has of a loss, under the names of the module.
std::vector<TensorView> loss_tensors(const SafetensorsFile& file);

}  // namespace lab
