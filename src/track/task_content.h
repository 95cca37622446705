#pragma once
// What a task holds, as tasks.edit and an offline session's task.json both have it.

#include <nlohmann/json.hpp>

#include "lab/track/clearml_task.h"

namespace lab::detail {

// Members hyperparams, configuration and script.
nlohmann::json content_of(const TaskDescription& task);

}  // namespace lab::detail
