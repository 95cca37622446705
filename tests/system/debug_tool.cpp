// debug_tool CONFIG: lab_train with one experiment, whose loss, transform or model's making fails where the
// config says.

#include <torch/types.h>

#include <algorithm>
#include <stdexcept>

#include "lab/lab.h"

// By name in a stack: neither made a part of its caller nor local to this file.
__attribute__((noinline)) void fail_here(const std::string& why) { throw std::runtime_error(why); }

namespace {

struct FailingConfig {
  std::string data, fails;
  static void describe(lab::Fields<FailingConfig>& f) {
    f("data", &FailingConfig::data, "file with x (N, 4), labels (N)");
    f("fails", &FailingConfig::fails, lab::one_of({"loss", "transform", "plan", "never"}), "what does");
  }
};

constexpr int64_t bad_sample = 41;

lab::TrainPlan train(const FailingConfig& c) {
  if (c.fails == "plan") fail_here("no plan");
  const auto fragile = lab::map("fragile", [c](lab::Sample& sample, lab::Rng&) {
    if (c.fails == "transform" && sample.id == bad_sample) fail_here("no transform");
  });
  const lab::Loss loss = [c, base = lab::cross_entropy()](const lab::Parts& output, const lab::Batch& batch) {
    const bool bad = std::ranges::find(batch.ids, bad_sample) != batch.ids.end();
    if (c.fails == "loss" && bad && output.only().requires_grad()) fail_here("no loss");
    return base(output, batch);
  };
  return {.model = {torch::nn::Sequential(torch::nn::Linear(4, 3)), "x"},
          .loss = loss,
          .optimizer = lab::SGD{.lr = 0.1},
          .train = {.dataset = lab::hdf5(c.data, {"x", "labels"}),
                    .transforms = {lab::class_index("labels", 3), fragile}},
          .batch_size = 16};
}

lab::InferPlan infer(const FailingConfig&, lab::Arguments) { return {}; }

}  // namespace

int main(int argc, char** argv) {
  return lab::train_main(argc, argv, {lab::experiment("failing", train, infer)});
}
