// lab_train with one experiment: the cnn of configs/mnist.toml with whatever lightning_cnn.py has as well.

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "lab/core/text.h"
#include "lab/lab.h"

namespace {

struct CnnConfig {
  std::string data = "data/mnist-train.h5";
  std::string steps = "steps";
  int64_t train_samples = 300, validation_samples = 200;
  int64_t batch_size = 32;
  std::string optimizer = "sgd";
  double learning_rate = 0.05, momentum = 0.9, weight_decay = 0.01;
  bool nesterov = false;
  bool groups = false;
  std::string schedule = "constant";
  std::vector<int64_t> milestones = {1, 2};
  double gamma = 0.2;
  int64_t period = 30;
  double plateau = 0;
  double ema = 0;

  static void describe(lab::Fields<CnnConfig>& f) {
    using C = CnnConfig;
    f("data", &C::data, lab::not_empty(), "HDF5 file with /images (N, 28, 28) and /labels (N)");
    f("steps", &C::steps, lab::not_empty(), "file to be written, a line for each step; the rank is appended");
    f("train_samples", &C::train_samples, lab::at_least(1), "the first so many train");
    f("validation_samples", &C::validation_samples, lab::at_least(1), "the next so many validate");
    f("batch_size", &C::batch_size, lab::at_least(1), "global");
    f("optimizer", &C::optimizer,
      lab::one_of({"sgd", "adamw", "adam", "adagrad", "rmsprop", "adadelta", "adamax", "nadam", "radam"}),
      "how parameters are updated");
    f("learning_rate", &C::learning_rate, lab::above(0), "of the optimizer");
    f("momentum", &C::momentum, lab::at_least(0), "of sgd");
    f("weight_decay", &C::weight_decay, lab::at_least(0), "of the optimizer");
    f("nesterov", &C::nesterov, "sgd's other momentum");
    f("groups", &C::groups, "conv1 at a tenth of the rate, biases without decay");
    f("schedule", &C::schedule, lab::one_of({"constant", "multi_step", "cosine"}), "of the learning rate");
    f("milestones", &C::milestones, lab::at_least(0), "multi_step: epochs");
    f("gamma", &C::gamma, lab::above(0), "multi_step: factor at each milestone");
    f("period", &C::period, lab::at_least(1), "cosine: steps down to a hundredth");
    f("plateau", &C::plateau, lab::at_least(0),
      "factor of the rate when the loss is a tenth lower at most; 0: none");
    f("ema", &C::ema, lab::between(0, 1), "decay of the weights' average, which is validated; 0: none");
  }
};

struct ConvNetImpl : torch::nn::Module {
  ConvNetImpl()
      : conv1(register_module("conv1", torch::nn::Conv2d(1, 16, 3))),
        conv2(register_module("conv2", torch::nn::Conv2d(16, 32, 3))),
        fc1(register_module("fc1", torch::nn::Linear(800, 64))),
        fc2(register_module("fc2", torch::nn::Linear(64, 10))) {}
  at::Tensor forward(at::Tensor x) {
    x = torch::max_pool2d(conv1(x).relu(), 2);
    x = torch::max_pool2d(conv2(x).relu(), 2);
    return fc2(fc1(x.flatten(1)).relu());
  }
  torch::nn::Conv2d conv1, conv2;
  torch::nn::Linear fc1, fc2;
};
TORCH_MODULE(ConvNet);

// A line "LOSS RATE" for each step, written by each rank.
class StepLines final : public lab::Callback {
 public:
  explicit StepLines(const std::string& path) {
    const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
    path_ = lab::text(path, '.', rank ? rank : "0");
  }
  std::string name() const override { return "step lines"; }
  void fit_started(const lab::FitReport&) override { file_.open(path_); }
  lab::Signal step_finished(const lab::StepReport& report) override {
    file_ << lab::shortest(report.loss) << ' ' << lab::shortest(report.rate) << std::endl;
    return {};
  }

 private:
  std::string path_;
  std::ofstream file_;
};

lab::OptimizerPlan optimizer(const CnnConfig& c) {
  if (c.optimizer == "adamw") return lab::AdamW{.lr = c.learning_rate, .weight_decay = c.weight_decay};
  if (c.optimizer == "adam")
    return lab::Adam{.lr = c.learning_rate, .weight_decay = c.weight_decay, .amsgrad = true};
  if (c.optimizer == "adagrad")
    return lab::Adagrad{
        .lr = c.learning_rate, .lr_decay = 0.1, .weight_decay = c.weight_decay, .initial_accumulator = 0.1};
  if (c.optimizer == "rmsprop")
    return lab::RMSprop{
        .lr = c.learning_rate, .weight_decay = c.weight_decay, .momentum = 0.5, .centered = true};
  if (c.optimizer == "adadelta")
    return lab::Adadelta{.lr = c.learning_rate, .rho = 0.8, .weight_decay = c.weight_decay};
  if (c.optimizer == "adamax") return lab::Adamax{.lr = c.learning_rate, .weight_decay = c.weight_decay};
  if (c.optimizer == "nadam")
    return lab::NAdam{.lr = c.learning_rate, .weight_decay = c.weight_decay, .decoupled = true};
  if (c.optimizer == "radam") return lab::RAdam{.lr = c.learning_rate, .weight_decay = c.weight_decay};
  return lab::SGD{
      .lr = c.learning_rate, .momentum = c.momentum, .weight_decay = c.weight_decay, .nesterov = c.nesterov};
}

lab::Schedule schedule(const CnnConfig& c) {
  if (c.schedule == "multi_step") return lab::multi_step(c.milestones, c.gamma);
  if (c.schedule == "cosine") return lab::cosine_annealing(c.period, 0.01, lab::Per::step);
  return {};
}

std::vector<lab::Metric> metrics() {
  const lab::Multiclass digits = {.classes = 10};
  return {lab::accuracy(), precision(digits), recall(digits),
          lab::f1(digits), auroc(digits),     average_precision(digits)};
}

lab::TrainPlan train(const CnnConfig& c) {
  const auto digits = lab::hdf5(c.data, {"images", "labels"});
  const lab::Transforms transforms = {lab::divide("images", 255), lab::add_channel("images"),
                                      lab::class_index("labels", 10)};
  lab::TrainPlan plan{
      .model = ConvNet(),
      .loss = lab::cross_entropy(),
      .optimizer = optimizer(c),
      .schedule = schedule(c),
      .train = {.dataset = digits.take(c.train_samples), .transforms = transforms},
      .validate = {.dataset = digits.drop(c.train_samples).take(c.validation_samples),
                   .transforms = transforms},
      .batch_size = c.batch_size,
      .metrics = metrics(),
      .callbacks = {std::make_shared<StepLines>(c.steps)},
  };
  if (c.groups)
    plan.groups = {{.name = "first", .patterns = {"conv1.weight"}, .lr = c.learning_rate / 10},
                   lab::without_decay()};
  if (c.plateau > 0) plan.plateau = lab::Plateau{.factor = c.plateau, .patience = 0, .threshold = 0.1};
  if (c.ema > 0) plan.ema = lab::Ema{.decay = c.ema, .validate = true};
  return plan;
}

lab::InferPlan infer(const CnnConfig&, lab::Arguments) { return {}; }

}  // namespace

int main(int argc, char** argv) {
  return lab::train_main(argc, argv, {lab::experiment("cnn", train, infer)});
}
