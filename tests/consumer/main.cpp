// An experiment outside the project: one linear layer reads the digits.
#include <lab/lab.h>

struct LineConfig {
  std::string data;
  static void describe(lab::Fields<LineConfig>& f) {
    f("data", &LineConfig::data, lab::not_empty(), "digits");
  }
};

lab::TrainPlan train(const LineConfig& config) {
  return {.model = torch::nn::Sequential(torch::nn::Flatten(), torch::nn::Linear(28 * 28, 10)),
          .loss = lab::cross_entropy(),
          .optimizer = lab::AdamW{},
          .train = {.dataset = lab::hdf5(config.data, {"images", "labels"}),
                    .transforms = {lab::divide("images", 255), lab::class_index("labels", 10)}},
          .batch_size = 100};
}

lab::InferPlan infer(const LineConfig&, lab::Arguments) { return {}; }

int main(int argc, char** argv) {
  return lab::train_main(argc, argv, {lab::experiment("line", train, infer)});
}
