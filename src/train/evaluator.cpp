#include "lab/train/evaluator.h"

#include <torch/types.h>

#include <utility>

#include "lab/train/step_plan.h"

namespace lab {

void for_each_chunk(const Model& model, std::shared_ptr<const Source> source, int64_t samples,
                    const DataPlan& plan, const ReaderOptions& options, const Upload& upload, bool inference,
                    int rank, int ranks, const std::function<bool(const ChunkOutput&)>& visit) {
  const torch::NoGradGuard no_grad;
  const c10::InferenceMode no_tracking(inference && upload.device().is_cpu());
  const Range own = chunks_of(samples, rank, ranks);
  const bool training = model.module().is_training();
  model.module().eval();
  Reader reader(std::move(source), plan.transforms, upload.from(options),
                [next = own.first, own, samples]() mutable -> std::optional<BatchRequest> {
                  if (next == own.end()) return std::nullopt;
                  return BatchRequest{0, chunk(samples, next++)};
                });
  for (int64_t index = own.first; index < own.end(); ++index) {
    HostBatch host = *reader.next();
    const std::vector<Metadata> metadata = std::move(host.metadata);
    const Batch batch = upload(std::move(host));
    const Parts output = model.forward(batch);
    if (!visit({index, batch, output, metadata})) break;
  }
  model.module().train(training);
}

}  // namespace lab
