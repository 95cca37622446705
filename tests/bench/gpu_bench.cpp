// Steps of training on one GPU on command, as lab_train does them; gpu_peer.py has the same networks in
// PyTorch.
//   gpu_bench CONFIG.toml [--set KEY=VALUE ...]      where CONFIG.toml has experiment = "gpu"
//   gpu_bench data NETWORK SAMPLES FILE.h5           writes random samples for it
// Told a number of steps, it does them, waits for the GPU, and says seconds, loss (their mean), how many
// parameters there are, and torch's settings that decide how fast a GPU is: whether convolutions and products
// may use TF32, and whether cuDNN tries its ways out.

#include <ATen/Context.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <signal.h>
#include <torch/cuda.h>

#include <chrono>
#include <random>

#include "app/session.h"
#include "bench/line.h"
#include "lab/core/signals.h"
#include "lab/data/hdf5_writer.h"
#include "lab/lab.h"
#include "lab/train/seed.h"
#include "lab/train/trainer.h"

namespace {

using namespace torch::nn;

constexpr int64_t image_side = 64, words = 128, vocabulary = 1024, classes = 10, heads = 8;

Conv2d convolution(int64_t in, int64_t out, int64_t kernel, int64_t stride) {
  return Conv2d(Conv2dOptions(in, out, kernel).stride(stride).padding(kernel / 2).bias(false));
}

// Of two convolutions, beside a short cut.
struct ResidualImpl : Module {
  ResidualImpl(int64_t in, int64_t out, int64_t stride)
      : conv1(register_module("conv1", convolution(in, out, 3, stride))),
        norm1(register_module("norm1", BatchNorm2d(out))),
        conv2(register_module("conv2", convolution(out, out, 3, 1))),
        norm2(register_module("norm2", BatchNorm2d(out))) {
    if (in != out)
      shortcut = register_module("shortcut", Sequential(convolution(in, out, 1, stride), BatchNorm2d(out)));
  }
  at::Tensor forward(const at::Tensor& x) {
    const at::Tensor y = norm2(conv2(norm1(conv1(x)).relu()));
    return (y + (shortcut ? shortcut->forward(x) : x)).relu();
  }
  Conv2d conv1;
  BatchNorm2d norm1;
  Conv2d conv2;
  BatchNorm2d norm2;
  Sequential shortcut = nullptr;
};
TORCH_MODULE(Residual);

// ResNet-18's layers for images (n, 3, side, side).
Sequential resnet(int64_t width) {
  Sequential layers(convolution(3, width, 7, 2), BatchNorm2d(width), ReLU(),
                    MaxPool2d(MaxPool2dOptions(3).stride(2).padding(1)));
  int64_t in = width;
  for (const int64_t factor : {1, 2, 4, 8})
    for (const int64_t place : {0, 1}) {
      layers->push_back(Residual(in, factor * width, factor > 1 && place == 0 ? 2 : 1));
      in = factor * width;
    }
  layers->push_back(AdaptiveAvgPool2d(1));
  layers->push_back(Flatten());
  layers->push_back(Linear(in, classes));
  return layers;
}

// A layer of a transformer's encoder that norms first.
struct EncoderImpl : Module {
  explicit EncoderImpl(int64_t width)
      : norm1(register_module("norm1", LayerNorm(LayerNormOptions({width})))),
        all(register_module("all", Linear(width, 3 * width))),
        out(register_module("out", Linear(width, width))),
        norm2(register_module("norm2", LayerNorm(LayerNormOptions({width})))),
        up(register_module("up", Linear(width, 4 * width))),
        down(register_module("down", Linear(4 * width, width))) {}
  at::Tensor forward(const at::Tensor& x) {
    const auto n = x.size(0), length = x.size(1), width = x.size(2);
    const auto three = all(norm1(x)).view({n, length, 3, heads, width / heads}).permute({2, 0, 3, 1, 4});
    const auto seen = at::scaled_dot_product_attention(three[0], three[1], three[2]);
    const auto y = x + out(seen.transpose(1, 2).reshape({n, length, width}));
    return y + down(torch::gelu(up(norm2(y))));
  }
  LayerNorm norm1;
  Linear all, out;
  LayerNorm norm2;
  Linear up, down;
};
TORCH_MODULE(Encoder);

struct TransformerImpl : Module {
  explicit TransformerImpl(int64_t width)
      : embedding(register_module("embedding", Embedding(vocabulary, width))),
        places(register_parameter("places", torch::zeros({words, width}))),
        layers(register_module("layers",
                               Sequential(Encoder(width), Encoder(width), Encoder(width), Encoder(width)))),
        norm(register_module("norm", LayerNorm(LayerNormOptions({width})))),
        last(register_module("last", Linear(width, classes))) {}
  at::Tensor forward(const at::Tensor& numbers) {
    return last(norm(layers->forward(embedding(numbers) + places)).mean(1));
  }
  Embedding embedding;
  at::Tensor places;
  Sequential layers;
  LayerNorm norm;
  Linear last;
};
TORCH_MODULE(Transformer);

struct GpuConfig {
  std::string network = "resnet";
  std::string data = "data.h5";
  int64_t batch_size = 128;
  int64_t width = 64;

  static void describe(lab::Fields<GpuConfig>& f) {
    using C = GpuConfig;
    f("network", &C::network, lab::one_of({"resnet", "transformer"}), "which network");
    f("data", &C::data, lab::not_empty(), "what `gpu_bench data` has written for it");
    f("batch_size", &C::batch_size, lab::at_least(1), "samples per step");
    f("width", &C::width, lab::between(8, 4096), "channels of the first layer, or of the transformer");
  }
};

lab::TrainPlan plan(const GpuConfig& c) {
  const bool images = c.network == "resnet";
  lab::Transforms transforms = {lab::class_index("labels", classes)};
  if (images) transforms.push_back(lab::divide("images", 255));
  return {
      .model = images ? lab::Model(resnet(c.width)) : lab::Model(Transformer(c.width), "words"),
      .loss = lab::cross_entropy(),
      .optimizer = lab::AdamW{.lr = 1e-3, .weight_decay = 0.01},
      .train = {.dataset = lab::hdf5(c.data, {images ? "images" : "words", "labels"}),
                .transforms = transforms,
                .shuffle = true},
      .batch_size = c.batch_size,
  };
}

lab::InferPlan nothing(const GpuConfig&, lab::Arguments) { return {}; }

// Random samples; labels are random too, so there is nothing to learn but them by heart.
void write_data(const std::string& network, int64_t samples, const std::string& path) {
  std::mt19937 random(1);
  const auto below = [&](size_t count, uint32_t bound, auto zero) {
    std::vector<decltype(zero)> values(count);
    for (auto& value : values) value = static_cast<decltype(zero)>(random() % bound);
    return values;
  };
  const auto n = static_cast<size_t>(samples);
  const auto labels = below(n, classes, uint8_t{});
  const lab::NewField answers{"labels", lab::DType::u8, {samples}, std::as_bytes(std::span(labels))};
  if (network == "resnet") {
    const auto pixels = below(n * 3 * image_side * image_side, 256, uint8_t{});
    const std::vector<int64_t> shape = {samples, 3, image_side, image_side};
    lab::write_hdf5(path, {{"images", lab::DType::u8, shape, std::as_bytes(std::span(pixels))}, answers});
  } else {
    const auto numbers = below(n * words, vocabulary, int32_t{});
    lab::write_hdf5(
        path, {{"words", lab::DType::i32, {samples, words}, std::as_bytes(std::span(numbers))}, answers});
  }
}

// Lets the trainer do as many steps as the script says, and stops it when there are no more to do. The GPU
// has done all it was given when a round begins and when it ends: both ends lie within one step, so a round's
// time is that of as many steps as it has.
class Player final : public lab::Callback {
 public:
  explicit Player(int64_t parameters) : parameters_(parameters) {}
  std::string name() const override { return "player"; }
  void fit_started(const lab::FitReport&) override { wait(); }
  lab::Signal step_finished(const lab::StepReport& report) override {
    loss_ += report.loss;
    if (asked_ == 0 || ++done_ < asked_) return {};
    if (torch::cuda::is_available()) torch::cuda::synchronize();
    const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
    const at::Context& settings = at::globalContext();
    line_.say(lab::text("seconds=", seconds, " loss=", loss_ / static_cast<double>(done_),
                        " parameters=", parameters_, " tf32_convolutions=", settings.allowTF32CuDNN(),
                        " tf32_products=", settings.allowTF32CuBLAS(), " tries=", settings.benchmarkCuDNN()));
    wait();
    return {};
  }

 private:
  using Clock = std::chrono::steady_clock;
  void wait() {
    asked_ = line_.told();
    if (asked_ == 0) raise(SIGTERM);  // as a user ends a run
    done_ = 0;
    loss_ = 0;
    start_ = Clock::now();
  }
  bench::Line line_;
  int64_t parameters_;
  int64_t asked_ = 0, done_ = 0;
  double loss_ = 0;
  Clock::time_point start_;
};

lab::ExitCode train(lab::Session& session, const std::vector<lab::Experiment>& experiments) {
  const auto config =
      lab::load_run_config(session.comm(), session.line.config, session.line.sets, experiments);
  const lab::Device device = lab::start_computing(session, config.trainer, config.trainer.threads);
  lab::seed_torch(static_cast<uint64_t>(config.trainer.seed), lab::Purpose::init);
  lab::TrainPlan plan = config.experiment.train();
  const auto sources = lab::open_sources(session.comm(), {plan.train.dataset});
  const auto checkpoints = lab::no_checkpoints();
  int64_t parameters = 0;
  for (const auto& parameter : plan.model.module().parameters()) parameters += parameter.numel();
  lab::TrainerContext context{.comm = session.comm(),
                              .log = session.log,
                              .train = sources[0],
                              .checkpoints = *checkpoints,
                              .recorders = {std::make_shared<Player>(parameters)},
                              .stop_signal = lab::stop_signal,
                              .device = device};
  lab::Trainer(std::move(plan), config.trainer, std::move(context)).fit();
  return lab::ExitCode::done;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 5 && std::string(argv[1]) == "data") {
    write_data(argv[2], std::atoll(argv[3]), argv[4]);
    return 0;
  }
  const std::vector<lab::Experiment> experiments = {lab::experiment("gpu", plan, nothing)};
  return lab::run_session(lab::Program::train, argc, argv, experiments,
                          [&](lab::Session& session) { return train(session, experiments); });
}
