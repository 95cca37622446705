#pragma once
// What a ClearML task is made from, and its making: found or created in its project under a name of its own.

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lab/track/clearml_api.h"

namespace lab {

// As ClearML shows it: value as Python's str() would write it, type "int", "float", "bool", "str", "list" or
// "dict".
struct TaskParameter {
  std::string name;  // "config/learning_rate"
  std::string value, type;
};

struct TaskScript {
  std::string binary, entry_point, working_dir;
  std::string repository, branch, commit, diff;
};

struct TaskDescription {
  std::string stem;   // the name without its version: "mnist-mnist"
  std::string token;  // 16 random hex digits, the same whenever this task is asked for
  std::string project, type = "training", parent;
  std::vector<std::string> tags;
  std::string output_uri;                 // as in [task]; "": the file server
  std::vector<TaskParameter> parameters;  // of the section "hparams"
  std::string configuration;              // of the configuration object "config": TOML
  TaskScript script;
};

struct TaskIdentity {
  std::string id, name, project_id, project;
};

// 1 + the highest N among names that are exactly STEM_vN, 0 where there is none.
int64_t next_version(const std::string& stem, const std::vector<std::string>& names);

struct RegisteredTask {
  std::optional<TaskIdentity> task;
  std::optional<ApiError> error;
  std::string warning = {};  // what the server did not take of a task that it made; mostly ""
};
// Creates the task, and its project where that is missing, as STEM_vN in status "created". May be called
// again after any failure: what an earlier call made is found by its token. Of several that start at once
// each gets a version of its own. A parent that the server does not know (any more) is left out.
RegisteredTask register_task(ClearmlApi& api, const TaskDescription& task,
                             std::chrono::milliseconds deadline);

// The task that ClearML's agent made this run for gets the section "hparams" and the configuration object
// "config" of `task`, and its tags beside those it has. All else stays, its name, project and script too.
RegisteredTask adopt_task(ClearmlApi& api, const std::string& id, const TaskDescription& task,
                          std::chrono::milliseconds deadline);

// Whether a server may have given it to a task: letters, digits, '-' and '_'; theirs have 32 hex digits.
bool is_task_id(std::string_view text);

// Whether a server takes it: 3 characters at least, blanks and '/' around them not counted.
bool is_project_name(const std::string& text);

// Why something was not sent or found, with what to do about it; one line.
std::string in_words(const ApiError& error);

// The page where a person sees the task; "" where the web server is not known.
std::string results_page(const ClearmlSettings& settings, const TaskIdentity& task);

}  // namespace lab
