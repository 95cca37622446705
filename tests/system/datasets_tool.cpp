// lab_train with one experiment: a line trained on what is made of two files and of samples of its own.

#include <cstdlib>
#include <string>

#include "lab/lab.h"

namespace {

struct SetsConfig {
  std::string first, second;
  int64_t picked = 0;
  bool disagree = false;

  static void describe(lab::Fields<SetsConfig>& f) {
    using C = SetsConfig;
    f("first", &C::first, lab::not_empty(), "file with images (N, 4, 4), labels (N) and writers (N), texts");
    f("second", &C::second, lab::not_empty(), "another");
    f("picked", &C::picked, lab::at_least(0), "a sample of the first that comes once more");
    f("disagree", &C::disagree, "whether rank 1 keeps other samples");
  }
};

// Grey squares, which are of class 0.
struct Squares : lab::OwnSamples {
  int64_t size() const override { return 50; }
  void get(int64_t i, lab::Sample& sample) const override {
    sample.set("images", {4, 4}, std::vector<float>(16, static_cast<float>(i) / 50));
    sample.set("labels", uint8_t{0});
    sample.metadata.set("writers", "none");
  }
  std::string identity() const override { return "grey squares"; }
};

lab::Dataset file(const std::string& path) {
  return lab::hdf5(path, {"images", "labels"}).with_metadata({"writers"});
}

lab::TrainPlan train(const SetsConfig& c) {
  const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
  const double least = c.disagree && rank != nullptr && std::string(rank) == "1" ? 2 : 1;
  const auto drawn =
      lab::concat({file(c.first), file(c.second), file(c.first).pick({c.picked})})
          .filter("not the first classes", {"labels"},
                  [least](const lab::Sample& sample) { return sample["labels"].number() >= least; })
          .map(lab::divide("images", 255))
          .cache(100000);
  const auto parts = lab::concat({drawn, lab::own("squares", [] { return std::make_shared<Squares>(); })})
                         .split_by("writers", {0.7, 0.3}, 1);
  return {.model = {torch::nn::Sequential(torch::nn::Flatten(), torch::nn::Linear(16, 10)), "images"},
          .loss = lab::cross_entropy(),
          .optimizer = lab::AdamW{},
          .train = {.dataset = parts[0],
                    .transforms = lab::shift("images", 1) + lab::class_index("labels", 10),
                    .shuffle = true},
          .validate = {.dataset = parts[1], .transforms = lab::class_index("labels", 10)},
          .batch_size = 64,
          .metrics = {lab::accuracy()}};
}

lab::InferPlan infer(const SetsConfig&, lab::Arguments) { return {}; }

}  // namespace

int main(int argc, char** argv) {
  return lab::train_main(argc, argv, {lab::experiment("sets", train, infer)});
}
