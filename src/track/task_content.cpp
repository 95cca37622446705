#include "track/task_content.h"

namespace lab::detail {

nlohmann::json content_of(const TaskDescription& task) {
  using Json = nlohmann::json;
  Json parameters = Json::object();
  for (const auto& [name, value, type] : task.parameters)
    parameters[name] = {{"section", "hparams"}, {"name", name}, {"value", value}, {"type", type}};
  const TaskScript& script = task.script;
  return {
      {"hyperparams", {{"hparams", parameters}}},
      {"configuration", {{"config", {{"name", "config"}, {"value", task.configuration}, {"type", "toml"}}}}},
      {"script",
       {{"binary", script.binary},
        {"repository", script.repository},
        {"branch", script.branch},
        {"version_num", script.commit},
        {"entry_point", script.entry_point},
        {"working_dir", script.working_dir},
        {"diff", script.diff},
        {"requirements", Json::object()}}}};
}

}  // namespace lab::detail
