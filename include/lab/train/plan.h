#pragma once
// What an experiment hands to the trainer: values that say what to train, on what, and how.

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <concepts>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lab/data/dataset.h"
#include "lab/data/transform.h"
#include "lab/train/callback.h"
#include "lab/train/ema.h"
#include "lab/train/figure.h"
#include "lab/train/freeze.h"
#include "lab/train/loss.h"
#include "lab/train/metric.h"
#include "lab/train/optimizer.h"
#include "lab/train/options.h"
#include "lab/train/parameter_groups.h"
#include "lab/train/plateau.h"
#include "lab/train/schedule.h"

namespace lab {

// Any torch module with `forward(Tensor)` or `forward(const Batch&)` that returns a Tensor or Parts. A module
// that takes one tensor gets the batch's part named `input`.
class Model {
 public:
  Model() = default;
  template <class Holder>
  requires requires(Holder h) {
    { h.ptr() } -> std::convertible_to<std::shared_ptr<torch::nn::Module>>;
  }
  Model(Holder holder, std::string input = "images") : module_(holder.ptr()) {  // NOLINT: a module is a model
    if constexpr (requires(const at::Tensor& tensor) { holder->forward(tensor); })
      forward_ = [holder, input = std::move(input)](const Batch& batch) mutable {
        return Parts(holder->forward(batch[input]));
      };
    else
      forward_ = [holder](const Batch& batch) mutable { return Parts(holder->forward(batch)); };
  }
  explicit operator bool() const { return module_ != nullptr; }
  // From now on forward() computes in narrower floats: `mixed`, where torch's autocast has such operations
  // (Micikevicius et al., "Mixed precision training", 2018), else wherever the module does, whose parameters
  // are of that type. What comes out is f32 all the same: losses and metrics see it.
  void compute_in(at::ScalarType type, bool mixed);
  torch::nn::Module& module() const { return *module_; }
  // Throws ConfigError with the batch's shapes when torch refuses what the module does with them.
  Parts forward(const Batch& batch) const;

 private:
  std::shared_ptr<torch::nn::Module> module_;
  std::function<Parts(const Batch&)> forward_;
  std::optional<at::ScalarType> narrow_;  // none: everything is as the data
  bool mixed_ = false;
};

// Gives the module's parameters and buffers the type of a run's floats. Where its parameters are of several
// floating types, those of f32 alone get it, and the others stay as they were chosen.
void set_precision(torch::nn::Module& module, at::ScalarType type);

// The same for a model and what it computes in, as the run's precision says.
void set_precision(Model& model, const TrainerOptions& options);

// 2 for a module with a BatchNorm1d, which can't learn from one sample (of one value per channel); else 1.
int64_t least_samples_of(const torch::nn::Module& module);

struct DataPlan {
  Dataset dataset = {};
  Transforms transforms = {};
  bool shuffle = false;
};

struct TrainPlan {
  Model model = {};
  Freeze freeze = {};
  Loss loss = {};
  // What the loss learns itself, such as a temperature: its parameters are trained with the model's, as
  // lab_loss.NAME, and saved as lab.loss.NAME; lab_infer needs none of them.
  std::shared_ptr<torch::nn::Module> loss_module = {};
  OptimizerPlan optimizer = {};
  std::vector<ParameterGroup> groups = {};  // with values of their own in it
  std::optional<Ema> ema = {};
  Schedule schedule = {};
  std::optional<Plateau> plateau = {};  // on top of the schedule
  DataPlan train = {};
  DataPlan validate = {};            // empty dataset: no validation
  DataPlan test_data = {};           // of --test, which alone opens it; empty dataset: none
  int64_t batch_size = 0;            // global: samples per optimizer step, over all ranks
  std::vector<Metric> metrics = {};  // of all stages
  std::vector<Figure> figures = {};  // of each validation but the first
  std::string monitor = {};          // what "best" means, as "loss/validate"; empty: no best
  Mode monitor_mode = Mode::min;
  std::vector<std::shared_ptr<Callback>> callbacks = {};
};

// The same plan, with its loss_module, if there is one, a child of the model's module. Again: no change.
TrainPlan with_loss_module(TrainPlan plan);

// One row per sample, in dataset order, each index once.
struct InferPlan {
  Model model = {};
  std::string weights = {};           // a file or "task:ID/NAME"; empty: those that the config names
  std::optional<bool> averaged = {};  // the average that Ema keeps of them; unset: if it was validated
  DataPlan data = {};
  std::vector<std::string> columns = {"prediction"};  // behind the column "index"
  // Of n samples: (n) or (n, columns) numbers; of any shape (n, ...) for one column; or tensors of any such
  // shapes by names of their own, which then are the columns.
  std::function<Parts(const Parts& output)> rows = {};
  std::vector<std::string> metadata = {};  // of the samples: columns behind those
  std::optional<Metric> metric = {};       // printed at the end if the data has its target
  std::string metric_needs = {};           // that target's part
  std::string output = "results.csv";  // or .h5, .hdf5; empty: what is predicted is for the callbacks alone
  std::vector<std::shared_ptr<Callback>> callbacks = {};
};

}  // namespace lab
