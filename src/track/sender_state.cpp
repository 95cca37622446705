#include "track/sender_state.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "lab/core/error.h"
#include "lab/core/process.h"

namespace lab::detail {
namespace {

using Json = nlohmann::ordered_json;

std::string path_in(const std::string& run_folder) { return run_folder + "/clearml.json"; }

SenderState from_json(const Json& json) {
  SenderState state;
  if (const auto& task = json.at("task"); !task.is_null())
    state.task = TaskIdentity{task.at("id"), task.at("name"), task.at("project_id"), task.at("project")};
  state.adopted = json.at("adopted");
  state.offset = json.at("offset");
  state.console_sent = json.at("console_sent");
  state.console_tried = json.at("console_tried");
  for (const auto& [slot, model] : json.at("waiting").items())
    state.waiting[slot] = {model.at("file"), model.at("design"), model.at("iteration")};
  state.status = json.at("status");
  if (const Json end = json.value("end", Json()); !end.is_null())
    state.end = SpooledStatus{end.at("status"), end.at("reason"), end.at("message")};
  state.lost = json.at("lost");
  return state;
}

}  // namespace

SenderState read_sender_state(const std::string& run_folder) {
  const std::string path = path_in(run_folder);
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return {};
  try {
    return from_json(Json::parse(read_file(path, "state of what was sent to ClearML")));
  } catch (const Json::exception& e) {
    throw DataError(path, " cannot be read: ", e.what(), "; how far the run was sent is not known");
  }
}

SenderState known_sender_state(const std::string& run_folder, const Log& log) {
  try {
    return read_sender_state(run_folder);
  } catch (const Error& e) {
    log.warn(e.what(), "; the server is asked what it has");
    return {};
  }
}

void write_sender_state(const std::string& run_folder, const SenderState& state) {
  Json task;
  if (state.task)
    task = {{"id", state.task->id},
            {"name", state.task->name},
            {"project_id", state.task->project_id},
            {"project", state.task->project}};
  Json waiting = Json::object();
  for (const auto& [slot, model] : state.waiting)
    waiting[slot] = {{"file", model.file}, {"design", model.design}, {"iteration", model.iteration}};
  Json end;
  if (state.end)
    end = {{"status", state.end->status}, {"reason", state.end->reason}, {"message", state.end->message}};
  const Json json = {{"task", task},
                     {"adopted", state.adopted},
                     {"offset", state.offset},
                     {"console_sent", state.console_sent},
                     {"console_tried", state.console_tried},
                     {"waiting", waiting},
                     {"status", state.status},
                     {"end", end},
                     {"lost", state.lost}};
  write_file_atomically(path_in(run_folder), json.dump(2, ' ', false, Json::error_handler_t::replace) + '\n');
}

}  // namespace lab::detail
