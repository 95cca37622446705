#pragma once
// The trainer's place, told to the watchdogs of this node.

#include <memory>

#include "lab/core/heartbeat.h"
#include "lab/train/callback.h"

namespace lab {

// For every rank; the heartbeat must outlive it.
std::shared_ptr<Callback> make_beats(Heartbeat& heartbeat);

}  // namespace lab
