#include "train/run_state.h"

#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "lab/core/error.h"

namespace lab {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t format = 2;

// JSON has no NaN or infinity: such a value becomes its name.
Json number(double value) { return std::isfinite(value) ? Json(value) : Json(shortest(value)); }

double to_double(const Json& json) {
  return json.is_string() ? std::strtod(json.get<std::string>().c_str(), nullptr) : json.get<double>();
}

Json best_json(const std::optional<Best>& best) {
  if (!best) return nullptr;
  Json json = {{"monitor", best->monitor},
               {"value", number(best->value)},
               {"epoch", best->epoch},
               {"step", best->step}};
  if (!best->file.empty()) json["file"] = best->file;
  return json;
}

Best best_from(const Json& json) {
  return {json.at("monitor").get<std::string>(), to_double(json.at("value")), json.at("epoch").get<int64_t>(),
          json.at("step").get<int64_t>(), json.value("file", std::string())};
}

RunState parsed(const Json& json) {
  RunState state;
  state.epoch = json.at("epoch").get<int64_t>();
  state.step = json.at("step").get<int64_t>();
  state.epoch_finished = json.at("epoch_finished").get<bool>();
  for (const auto& [tag, value] : json.at("values").items()) state.values.emplace_back(tag, to_double(value));
  state.optimizer = json.at("optimizer").at("name").get<std::string>();
  state.optimizer_steps = json.at("optimizer").at("steps").get<int64_t>();
  for (const auto& callback : json.at("callbacks"))
    state.callbacks.emplace_back(callback.at("name").get<std::string>(),
                                 callback.at("state").get<std::string>());
  if (const Json& best = json.at("best"); !best.is_null()) state.best = best_from(best);
  for (const auto& best : json.value("next_best", Json::array())) state.next_best.push_back(best_from(best));
  state.stopped_by = json.at("stopped_by").get<std::string>();
  state.records = json.at("records").get<std::vector<int64_t>>();
  state.epoch_steps = json.value("epoch_steps", int64_t{0});
  state.averaged = json.value("averaged", false);
  return state;
}

}  // namespace

std::string to_json(const RunState& state) {
  Json values = Json::object(), callbacks = Json::array();
  for (const auto& [tag, value] : state.values) values[tag] = number(value);
  for (const auto& [name, text] : state.callbacks) callbacks.push_back({{"name", name}, {"state", text}});
  Json json = {{"format", format},
               {"epoch", state.epoch},
               {"step", state.step},
               {"epoch_finished", state.epoch_finished},
               {"values", values},
               {"optimizer", {{"name", state.optimizer}, {"steps", state.optimizer_steps}}},
               {"callbacks", callbacks},
               {"stopped_by", state.stopped_by},
               {"best", best_json(state.best)},
               {"records", state.records},
               {"shards", nullptr}};
  if (state.epoch_steps > 0) json["epoch_steps"] = state.epoch_steps;
  if (state.averaged) json["averaged"] = true;
  for (const Best& best : state.next_best) json["next_best"].push_back(best_json(best));
  return json.dump();
}

RunState run_state_from_json(const std::string& text) {
  try {
    const Json json = Json::parse(text);
    if (const auto found = json.at("format").get<int64_t>(); found != format)
      throw DataError("the state of the run in it has the format ", found, ", this version of lab reads ",
                      format, "; go on with the version that wrote it, or take its weights only");
    return parsed(json);
  } catch (const nlohmann::json::exception& e) {
    throw DataError("the state of the run in it cannot be read: ", e.what());
  }
}

}  // namespace lab
