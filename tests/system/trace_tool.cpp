// trace_tool CONFIG.toml OUT.safetensors [KEY=VALUE ...]: trains on one rank and writes down all that another
// program needs to do the same: the weights at the start, every batch, the first step's mean gradients, each
// step's loss, and the weights at the end.

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <cstdio>
#include <string>
#include <vector>

#include "app/run_config.h"
#include "app/session.h"
#include "experiments/registry.h"
#include "lab/train/evaluator.h"
#include "lab/train/reducer.h"
#include "lab/train/safetensors.h"
#include "lab/train/seed.h"
#include "lab/train/tensor_buffer.h"
#include "lab/train/trainer.h"

namespace {

// Named copies, and the file they end in.
class Trace {
 public:
  void add(const std::string& name, const at::Tensor& tensor) {
    tensors_.push_back(tensor.detach().clone().contiguous());
    views_.push_back(
        {name, lab::dtype_of(tensor.scalar_type()), tensor.sizes().vec(), tensors_.back().const_data_ptr()});
  }
  void write(const std::string& path) const { lab::write_safetensors(path, views_); }

 private:
  std::vector<at::Tensor> tensors_;
  std::vector<lab::TensorView> views_;
};

class LossRecorder final : public lab::Callback {
 public:
  std::string name() const override { return "loss recorder"; }
  lab::Signal step_finished(const lab::StepReport& report) override {
    losses.push_back(report.loss);
    return {};
  }
  std::vector<double> losses;
};

// The plan as lab_train makes it, from the same seed.
lab::TrainPlan make_plan(const lab::RunConfig& config) {
  lab::seed_torch(static_cast<uint64_t>(config.trainer.seed), lab::Purpose::init);
  lab::TrainPlan plan = config.experiment.train();
  plan.model.module().to(lab::scalar_type(config.trainer.dtype()));
  return plan;
}

lab::Batch batch_of(const lab::TrainPlan& plan, const lab::RunConfig& config, const lab::Source& source,
                    int64_t step) {
  const int64_t steps = lab::steps_per_epoch(source.size(), plan.batch_size);
  const auto list = lab::micro_batches({}, source.size(), plan.batch_size, step % steps, 0, 1);
  const lab::ReaderOptions options{static_cast<uint64_t>(config.trainer.seed), plan.train.shuffle,
                                   config.trainer.dtype(), 2};
  return lab::Upload({})(lab::make_batch(source, plan.train.transforms, options,
                                         {static_cast<uint64_t>(step / steps), list[0].positions}));
}

void add_first_gradients(Trace& trace, lab::Communicator& comm, const lab::TrainPlan& plan,
                         const lab::Batch& batch) {
  lab::FlatParameters parameters(plan.model.module());
  lab::GradientReducer reducer(comm, parameters, {});
  const auto loss = plan.loss(plan.model.forward(batch), batch);
  reducer.arm(lab::micro_batches({}, batch.count(), batch.count(), 0, 0, 1)[0], loss, true);
  loss.sum.backward();
  const auto sums = reducer.finish();
  for (const auto& slot : parameters.slots())
    trace.add("gradient." + slot.name, lab::FlatParameters::view(sums.gradients, slot));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 64;
  at::set_num_threads(1);
  const auto comm = lab::self_communicator();
  const auto config = lab::load_run_config(*comm, argv[1], std::vector<std::string>(argv + 3, argv + argc),
                                           registered_experiments());
  lab::TrainPlan plan = make_plan(config);
  const auto sources = lab::open_sources(*comm, {plan.train.dataset});
  Trace trace;
  for (const auto& [name, tensor] : lab::model_tensors(plan.model.module()))
    trace.add("start." + name, tensor);
  add_first_gradients(trace, *comm, make_plan(config), batch_of(plan, config, *sources[0], 0));

  const auto recorder = std::make_shared<LossRecorder>();
  const auto no_files = lab::no_checkpoints();
  const lab::Model model = plan.model;
  plan.monitor.clear();  // nothing is validated here
  lab::TrainPlan traced = plan;
  lab::Trainer trainer(std::move(plan), config.trainer,
                       {*comm, lab::Log::silent(), sources[0], nullptr, *no_files, {recorder}});
  const auto done = trainer.fit();
  for (int64_t step = 0; step < done.steps; ++step) {
    const auto batch = batch_of(traced, config, *sources[0], step);
    for (const auto& [name, tensor] : batch.parts.entries())
      trace.add(lab::text("batch.", step, ".", name), tensor);
  }
  for (const auto& [name, tensor] : lab::model_tensors(model.module())) trace.add("end." + name, tensor);
  trace.add("losses", torch::tensor(recorder->losses, torch::kFloat64));
  trace.write(argv[2]);
  return 0;
}
