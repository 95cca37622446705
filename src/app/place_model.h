#pragma once
// A model that is not trained, made ready on every rank.

#include <functional>

#include "app/session.h"
#include "lab/train/on_device.h"
#include "lab/train/plan.h"

namespace lab {

// Gives it the run's precision, then lets rank 0 alone `load` weights into it, hands these to all, and moves
// it to where `upload` brings batches. Collective; AgreedError.
void place_model(const Session& session, const TrainerOptions& options, Model& model, const Upload& upload,
                 const std::function<void()>& load);

}  // namespace lab
