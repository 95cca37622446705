// predict_tool train|infer ...: lab_train and lab_infer with one experiment, points of three classes. What it
// measures, predicts and averages is for the config to say.

#include <ATen/Context.h>
#include <torch/types.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <string>

#include "lab/lab.h"

namespace {

struct PointsConfig {
  std::string data, test_data;
  std::string average = "none";    // or "kept", "validated"
  std::string averaged = "unset";  // or "yes", "no": what is predicted with
  std::string rows = "classes";
  std::string metric = "accuracy";
  std::string operation = "none";
  std::vector<std::string> metadata;
  std::string written = "table";
  bool mapped = false, validates = true;

  static void describe(lab::Fields<PointsConfig>& f) {
    using C = PointsConfig;
    f("data", &C::data, "file with x (N, 4), labels (N), and what metadata is asked for");
    f("test_data", &C::test_data, "another");
    f("average", &C::average, lab::one_of({"none", "kept", "validated"}), "of the weights");
    f("averaged", &C::averaged, lab::one_of({"unset", "yes", "no"}), "what is predicted with");
    f("rows", &C::rows, "what is predicted");
    f("metric", &C::metric, "what predictions are judged by");
    f("operation", &C::operation, lab::one_of({"none", "put"}), "put: one that has no deterministic form");
    f("metadata", &C::metadata, "of the plan itself");
    f("written", &C::written, lab::one_of({"table", "bytes"}), "bytes: by a callback, in a form of its own");
    f("mapped", &C::mapped, "whether the data is something made of a file");
    f("validates", &C::validates, "whether there is validation data");
  }
};

lab::Model model() {
  return {torch::nn::Sequential(torch::nn::Linear(4, 16), torch::nn::BatchNorm1d(16), torch::nn::Tanh(),
                                torch::nn::Dropout(0.2), torch::nn::Linear(16, 3)),
          "x"};
}

// How things are set while something is computed.
lab::Metric told(const char* name, bool (*is)(const at::Tensor& output)) {
  return lab::pooled_mean(name, [is](const lab::Parts& output, const lab::Batch&) {
    return torch::full({}, is(output.only()) ? 1.0 : 0.0, torch::kFloat64);
  });
}

lab::Loss loss(const PointsConfig& c) {
  if (c.operation == "none") return lab::cross_entropy();
  return [](const lab::Parts& output, const lab::Batch& batch) {
    at::Tensor copy = output.only().clone();
    if (!output.only().requires_grad())
      copy.put_(torch::zeros({1}, torch::kLong), torch::zeros({1}, copy.options()));
    return lab::cross_entropy()(output, batch);
  };
}

lab::TrainPlan train(const PointsConfig& c) {
  const auto points = lab::hdf5(c.data, {"x", "labels"});
  const auto classes = lab::class_index("labels", 3);
  lab::TrainPlan plan{
      .model = model(),
      .loss = loss(c),
      .optimizer = lab::AdamW{.lr = 0.02},
      .train = {.dataset = points, .transforms = classes, .shuffle = true},
      .batch_size = 32,
      .metrics = {lab::accuracy(), lab::named(lab::auroc({.classes = 3}), "areas"),
                  lab::only_in(lab::named(lab::accuracy(), "tested"), lab::MetricStage::test),
                  told("inference", [](const at::Tensor& output) { return output.is_inference(); }),
                  told("benchmark", [](const at::Tensor&) { return at::globalContext().benchmarkCuDNN(); })},
      .figures = {lab::confusion_matrix({"a", "b", "c"})}};
  if (c.average != "none") plan.ema = lab::Ema{.decay = 0.9, .validate = c.average == "validated"};
  if (c.validates) plan.validate = {.dataset = points, .transforms = classes};
  if (!c.test_data.empty())
    plan.test_data = {.dataset = lab::hdf5(c.test_data, {"x", "labels"}), .transforms = classes};
  return plan;
}

using Rows = std::function<lab::Parts(const lab::Parts&)>;

Rows rows(const std::string& what) {
  const std::map<std::string, Rows> known = {
      {"classes", [](const lab::Parts& output) { return output.only().argmax(1); }},
      {"two", [](const lab::Parts& output) { return output.only().softmax(1).narrow(1, 0, 2); }},
      {"maps",
       [](const lab::Parts& output) {
         return output.only().unsqueeze(1).expand({-1, 2, 3});
       }},
      {"named",
       [](const lab::Parts& output) {
         lab::Parts parts;
         parts.add("probability", output.only().softmax(1));
         parts.add("likely", output.only().softmax(1).gt(0.5));
         parts.add("half", output.only().select(1, 0).to(torch::kBFloat16));
         parts.add("class", output.only().argmax(1).to(torch::kInt));
         return parts;
       }},
      {"short", [](const lab::Parts& output) { return output.only().argmax(1).narrow(0, 0, 1); }},
      {"twice",
       [](const lab::Parts& output) {
         lab::Parts parts;
         parts.add("same", output.only());
         parts.add("same", output.only());
         return parts;
       }},
      {"uneven", [](const lab::Parts& output) {
         return output.only().size(0) < 64 ? output.only() : output.only().argmax(1);
       }}};
  return known.at(what);
}

// Writes a byte for each sample.
class ByteWriter final : public lab::Callback {
 public:
  explicit ByteWriter(std::string path) : path_(std::move(path)) {}
  std::string name() const override { return "byte_writer"; }
  void prediction_started(int64_t samples) override { samples_ = samples; }
  void prediction_chunk_finished(int64_t) override { ++chunks_; }
  void prediction_finished(const std::vector<lab::TableColumn>& columns) override {
    if (samples_ > 0 && chunks_ == 0) std::fprintf(stderr, "a rank had no chunk\n");
    if (columns.empty()) return;
    std::ofstream out(path_);
    const auto& bytes = columns.at(0).bytes;
    for (size_t i = 0; i < bytes.size(); i += sizeof(int64_t))
      out.put(static_cast<char>('a' + std::to_integer<int>(bytes[i])));
  }

 private:
  std::string path_;
  int64_t samples_ = 0, chunks_ = 0;
};

// [WEIGHTS] DATA OUT
lab::InferPlan infer(const PointsConfig& c, lab::Arguments arguments) {
  if (arguments.size() < 2 || arguments.size() > 3) throw lab::UsageError("wants [WEIGHTS] DATA OUT");
  const auto points = lab::hdf5(arguments[arguments.size() - 2], {"x"}).with_optional("labels");
  const auto with = points.with_metadata(c.metadata);
  lab::InferPlan plan{.model = model(),
                      .weights = arguments.size() == 3 ? arguments[0] : "",
                      .data = {.dataset = c.mapped ? with.map(lab::divide("x", 1)) : with},
                      .rows = rows(c.rows),
                      .metadata = c.metadata,
                      .metric_needs = "labels",
                      .output = arguments.back()};
  if (c.written == "bytes") {
    plan.callbacks = {std::make_shared<ByteWriter>(plan.output)};
    plan.output.clear();
  }
  if (c.rows == "two") plan.columns = {"first", "second"};
  if (c.averaged != "unset") plan.averaged = c.averaged == "yes";
  if (c.metric == "accuracy") plan.metric = lab::accuracy();
  if (c.metric == "recall") plan.metric = lab::recall(lab::Multiclass{.classes = 3});
  return plan;
}

}  // namespace

int main(int argc, char** argv) {
  const bool infers = argc > 1 && std::strcmp(argv[1], "infer") == 0;
  argv[1] = argv[0];
  const auto points = lab::experiment("points", train, infer);
  return infers ? lab::infer_main(argc - 1, argv + 1, {points})
                : lab::train_main(argc - 1, argv + 1, {points});
}
