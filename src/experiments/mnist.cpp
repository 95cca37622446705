// Handwritten digits. model = "cnn" is a small convolutional network; model = "toy" is the demo network of
// torch-lab, kept as it was: its last ReLU keeps logits at zero or above, so its loss cannot fall below 0.62.

#include "experiments/registry.h"
#include "lab/lab.h"

namespace {

constexpr int64_t classes = 10;
const std::vector<std::string> digit_names = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};

struct MnistConfig {
  std::string data = "data/mnist-train.h5";
  std::string test_data;
  std::string model = "cnn";
  int64_t train_samples = 5500;
  int64_t n_features = 16;
  double dropout = 0;
  int64_t shift = 2;
  double flip = 0;
  int64_t batch_size = 128;
  std::string optimizer = "adamw";
  double learning_rate = 3e-3;
  double momentum = 0.9;
  double weight_decay = 0.01;
  std::string schedule = "cosine";
  double warmup = 0.1;
  std::vector<int64_t> milestones = {5, 8};
  double gamma = 0.2;
  std::string monitor = "loss/validate";
  int64_t patience = 0;

  static void describe(lab::Fields<MnistConfig>& f) {
    using C = MnistConfig;
    f("data", &C::data, lab::not_empty(), "HDF5 file with /images (N, 28, 28) and /labels (N)");
    f("test_data", &C::test_data, "another such file, for --test; \"\": none");
    f("model", &C::model, lab::one_of({"cnn", "toy"}), "which network");
    f("train_samples", &C::train_samples, lab::at_least(1), "the first so many train, the rest validate");
    f("n_features", &C::n_features, lab::between(1, 4096), "channels of the first convolution");
    f("dropout", &C::dropout, lab::at_least(0), lab::below(1),
      "share of the cnn's hidden units dropped in training");
    f("shift", &C::shift, lab::between(0, 14),
      "training images move by up to so many pixels along each axis");
    f("flip", &C::flip, lab::between(0, 1), "probability that a training image is turned upside down");
    f("batch_size", &C::batch_size, lab::at_least(1), "global: samples per step over all ranks");
    f("optimizer", &C::optimizer, lab::one_of({"adamw", "sgd"}), "how parameters are updated");
    f("learning_rate", &C::learning_rate, lab::above(0), "step size of the optimizer");
    f("momentum", &C::momentum, lab::at_least(0), lab::below(1), "of sgd");
    f("weight_decay", &C::weight_decay, lab::at_least(0), "pull of the weights towards zero");
    f("schedule", &C::schedule, lab::one_of({"cosine", "multi_step"}), "how the learning rate goes down");
    f("warmup", &C::warmup, lab::between(0, 1), "cosine: share of all steps in which the rate rises");
    f("milestones", &C::milestones, lab::at_least(0),
      "multi_step: epochs at which the rate is multiplied by gamma");
    f("gamma", &C::gamma, lab::above(0), "multi_step: factor at each milestone");
    f("monitor", &C::monitor, "what the best checkpoint and early stopping watch; the smaller the better");
    f("patience", &C::patience, lab::at_least(0),
      "epochs without improvement before training stops; 0: never");
  }
};

struct ConvNetImpl : torch::nn::Module {
  ConvNetImpl(int64_t n, double drop)
      : conv1(register_module("conv1", torch::nn::Conv2d(1, n, 3))),
        conv2(register_module("conv2", torch::nn::Conv2d(n, 2 * n, 3))),
        fc1(register_module("fc1", torch::nn::Linear(2 * n * 5 * 5, 64))),
        fc2(register_module("fc2", torch::nn::Linear(64, classes))),
        dropout(register_module("dropout", torch::nn::Dropout(drop))) {}

  at::Tensor forward(at::Tensor x) {  // (n, 1, 28, 28) -> logits (n, 10)
    x = torch::max_pool2d(conv1(x).relu(), 2);
    x = torch::max_pool2d(conv2(x).relu(), 2);
    return fc2(dropout(fc1(x.flatten(1)).relu()));
  }

  torch::nn::Conv2d conv1, conv2;
  torch::nn::Linear fc1, fc2;
  torch::nn::Dropout dropout;
};
TORCH_MODULE(ConvNet);

struct ToyNetImpl : torch::nn::Module {
  explicit ToyNetImpl(int64_t n)
      : conv1(register_module("conv1", torch::nn::Conv2d(1, n, 3))),
        norm1(register_module("norm1", torch::nn::BatchNorm2d(n))),
        conv2(register_module("conv2", torch::nn::Conv2d(n, classes, 3))),
        norm2(register_module("norm2", torch::nn::BatchNorm2d(classes))) {}

  at::Tensor forward(at::Tensor x) {  // (n, 1, 28, 28) -> logits (n, 10)
    x = torch::avg_pool2d(norm1(conv1(x)).relu(), 2);
    return torch::adaptive_avg_pool2d(norm2(conv2(x)).relu(), {1, 1}).flatten(1);
  }

  torch::nn::Conv2d conv1;
  torch::nn::BatchNorm2d norm1;
  torch::nn::Conv2d conv2;
  torch::nn::BatchNorm2d norm2;
};
TORCH_MODULE(ToyNet);

lab::Model model(const MnistConfig& c) {
  return c.model == "toy" ? lab::Model(ToyNet(c.n_features)) : lab::Model(ConvNet(c.n_features, c.dropout));
}

lab::OptimizerPlan optimizer(const MnistConfig& c) {
  if (c.optimizer == "sgd")
    return lab::SGD{.lr = c.learning_rate, .momentum = c.momentum, .weight_decay = c.weight_decay};
  return lab::AdamW{.lr = c.learning_rate, .weight_decay = c.weight_decay};
}

lab::Transforms images() { return {lab::divide("images", 255), lab::add_channel("images")}; }

// Training images are moved about while they are still bytes.
lab::Transforms transforms(const MnistConfig& c, bool augment) {
  lab::Transforms list;
  if (augment && c.shift > 0) list.push_back(lab::shift("images", c.shift));
  if (augment && c.flip > 0) list.push_back(lab::flip_vertical("images", c.flip));
  for (auto& transform : images()) list.push_back(std::move(transform));
  list.push_back(c.model == "toy" ? lab::one_hot("labels", classes) : lab::class_index("labels", classes));
  return list;
}

lab::TrainPlan train(const MnistConfig& c) {
  const auto digits = lab::hdf5(c.data, {"images", "labels"});
  lab::TrainPlan plan{
      .model = model(c),
      .loss = c.model == "toy" ? lab::bce_with_logits() : lab::cross_entropy(),
      .optimizer = optimizer(c),
      .schedule =
          c.schedule == "cosine" ? lab::warmup_cosine(c.warmup) : lab::multi_step(c.milestones, c.gamma),
      .train = {.dataset = digits.take(c.train_samples), .transforms = transforms(c, true), .shuffle = true},
      .validate = {.dataset = digits.drop(c.train_samples), .transforms = transforms(c, false)},
      .batch_size = c.batch_size,
      .metrics = {lab::accuracy()},
      .figures = {lab::confusion_matrix(digit_names)},
      .monitor = c.monitor,
  };
  if (!c.test_data.empty())
    plan.test_data = {.dataset = lab::hdf5(c.test_data, {"images", "labels"}),
                      .transforms = transforms(c, false)};
  if (c.patience > 0)
    plan.callbacks.push_back(lab::early_stopping({.monitor = c.monitor, .patience = c.patience}));
  return plan;
}

lab::InferPlan infer(const MnistConfig& c, lab::Arguments arguments) {
  const auto is_data = [](const std::string& word) {
    return word.ends_with(".h5") || word.ends_with(".hdf5");
  };
  std::string weights;  // left out: those that the config names
  if (!arguments.empty() && !is_data(arguments[0])) {
    weights = arguments[0];
    arguments = arguments.subspan(1);
  }
  if (arguments.empty() || arguments.size() > 2)
    throw lab::UsageError("mnist wants [WEIGHTS] IMAGES.h5 [OUT] behind the config, not ",
                          arguments.size() + !weights.empty(), " arguments");
  return {
      .model = model(c),
      .weights = weights,
      .data = {.dataset = lab::hdf5(arguments[0], {"images"}).with_optional("labels"),
               .transforms = images()},
      .rows = [](const lab::Parts& output) { return output.only().argmax(1); },
      .metric = lab::accuracy(),
      .metric_needs = "labels",
      .output = arguments.size() == 2 ? arguments[1] : "results.csv",
  };
}

}  // namespace

lab::Experiment mnist_experiment() { return lab::experiment("mnist", train, infer); }
