#pragma once
// One output model of a task: its file brought to where models go, and the model said to the server.

#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "lab/track/clearml_sender.h"
#include "track/sender_state.h"

namespace lab::detail {

struct ModelPlace {
  std::string storage_path;  // for the file server: "/project/name.id/models/best.safetensors"
  std::string uri;           // as the server is told
  std::string path;          // of the copy, where models go to a folder
};
ModelPlace model_place(const ModelStore& store, const ClearmlSettings& settings, const TaskIdentity& task,
                       const std::string& slot, const std::string& file);

// What the server answers where a task's status does not allow a call: 400 with this.
constexpr int not_in_this_status = 110;

// Brings the file of `model` to its place, makes the model on the server or finds it, and puts it into its
// slot of the task. May be repeated after any failure: the newest stands. A task that was ended takes no
// models: it is started again if `before_reopening` says so, else the answer is not_in_this_status.
std::optional<ApiError> publish_model(ClearmlApi& api, const ModelStore& store,
                                      const ClearmlSettings& settings, const TaskIdentity& task,
                                      const std::string& slot, const SpooledModel& model,
                                      std::chrono::milliseconds deadline,
                                      const std::function<bool()>& before_reopening);

}  // namespace lab::detail
