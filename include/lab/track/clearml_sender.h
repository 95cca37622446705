#pragma once
// Sends what a run's spool holds to a ClearML server, from wherever an earlier process got to.

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "lab/core/log.h"
#include "lab/track/clearml_api.h"
#include "lab/track/clearml_task.h"

namespace lab {

// Whose task a run is recorded in, from before there is a run folder.
struct TaskClaim {
  std::optional<TaskIdentity> task;  // none: the server did not answer, it is to be registered later
  bool adopted = false;              // made by ClearML's agent
};

// The sender of one run folder. Its state is kept in the folder (clearml.json), so that nothing is sent twice
// and nothing left out whatever happens between two calls. For one thread, but upload(), which may run in a
// second one beside it, interrupt() and cancel(). Nothing but the constructor throws for an outside reason:
// what went wrong is returned, and the next call goes on from there.
class ClearmlSender {
 public:
  using Milliseconds = std::chrono::milliseconds;

  // Throws ConfigError where there is nothing to log in with. A state that cannot be read is begun anew, and
  // the log says so: the task is found again, and what it has is not sent twice.
  ClearmlSender(const std::string& run_folder, ClearmlSettings settings, Log log, ApiOptions api = {});
  ~ClearmlSender();
  ClearmlSender(const ClearmlSender&) = delete;
  ClearmlSender& operator=(const ClearmlSender&) = delete;

  // Records a claim that was made before the folder was there. Throws IoError.
  void claim(const TaskClaim& claim);
  // nullopt: not registered yet.
  std::optional<TaskIdentity> task() const;

  // Registers the task if need be and sends what there is: points, console, statuses. A final status waits
  // for all behind it and for all models. Returns why it stopped before the end, without a message where it
  // only has to wait for models; nullopt: all is sent.
  std::optional<ApiError> send(Milliseconds deadline);
  // Uploads the newest of each output model that waits. A task that was ended takes no models: `reopen` it
  // for them (the next send() ends it again), or wait.
  std::optional<ApiError> upload(Milliseconds deadline, bool reopen);
  // That records or models were refused for good, or are damaged, and what can be done; "" where all is well.
  std::string refusals() const;
  // Whether the server has all of the spool.
  bool done() const;
  // How much of the spool is not sent: bytes, and files that wait.
  std::string left() const;

  // Tells the server that the run lives. True: somebody aborted the task there.
  bool aborted(Milliseconds deadline);
  void ping(Milliseconds deadline);
  // A server ends tasks that were silent for hours: the run goes on.
  void revive(Milliseconds deadline);

  // From any thread: the call of send() that is under way fails within about a second, later ones do not.
  void interrupt();
  // From any thread: all calls under way end, and all later ones at once.
  void cancel();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Where the files of a task's models go.
struct ModelStore {
  enum class Kind { file_server, folder, in_place } kind = Kind::file_server;
  std::string folder;
};
// What [task] output_uri and the settings say: "" and "true" are the default (the settings' own, else the
// file server, else in place), "false" leaves the files where they are, a path or file:// is a folder. Throws
// ConfigError for anything else.
ModelStore model_store(const std::string& output_uri, const ClearmlSettings& settings);

}  // namespace lab
