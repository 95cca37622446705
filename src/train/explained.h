#pragma once
// torch's refusals of what an experiment computes, told as what they are: mistakes in the experiment.

#include <c10/util/Exception.h>

#include "lab/core/error.h"
#include "lab/train/parts.h"

namespace lab {

std::string shapes_text(const Batch& batch);  // "64 samples: images (64, 1, 28, 28), labels (64)"

// What `compute` returns; a c10::Error in it becomes a ConfigError that names `what` and the batch.
template <class Compute>
auto explained(const char* what, const Batch& batch, const Compute& compute) {
  try {
    return compute();
  } catch (const c10::OutOfMemoryError&) {
    throw;  // the GPU's, whatever the shapes
  } catch (const c10::Error& e) {
    throw ConfigError("the experiment's ", what, " cannot compute a batch of ", shapes_text(batch), ": ",
                      e.what_without_backtrace(), "; make it fit these shapes");
  }
}

}  // namespace lab
