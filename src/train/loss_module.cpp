#include "train/loss_module.h"

#include <torch/nn/module.h>

#include "lab/train/plan.h"

namespace lab {
namespace {

const std::string in_module = std::string(loss_child) + ".", in_file = "lab.loss.";

}  // namespace

bool is_of_loss(const std::string& name) { return name.starts_with(in_module); }

std::string saved_name_of_loss(const std::string& name) { return in_file + name.substr(in_module.size()); }

std::vector<TensorView> loss_tensors(const SafetensorsFile& file) {
  std::vector<TensorView> out;
  for (const std::string& name : file.names())
    if (name.starts_with(in_file)) {
      out.push_back(*file.find(name));
      out.back().name = in_module + name.substr(in_file.size());
    }
  return out;
}

TrainPlan with_loss_module(TrainPlan plan) {
  if (plan.model && plan.loss_module && !plan.model.module().named_children().contains(loss_child))
    plan.model.module().register_module(loss_child, plan.loss_module);
  return plan;
}

}  // namespace lab
