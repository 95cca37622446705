#pragma once
// What ClearML is told about a run before it begins.

#include <string>
#include <vector>

#include "app/run_config.h"
#include "lab/app/run_folder.h"
#include "lab/track/clearml_task.h"

namespace lab {

// A config value as ClearML's own tools would have written it from Python.
TaskParameter task_parameter(const std::string& dotted_key, const Value& value);
// The other way round: TOML, or nullopt for what is no value ("None", nothing).
std::optional<std::string> toml_of_parameter(const std::string& value, const std::string& type);

// The address of a repository without a user's name, password or token.
std::string without_credentials(const std::string& repository);

// Runs git, where there is one and this is a repository.
TaskScript task_script(const std::vector<std::string>& argv, bool with_diff);

TaskDescription task_description(const RunConfig& config, const RunNames& names,
                                 const std::vector<std::string>& argv);

}  // namespace lab
