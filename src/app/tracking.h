#pragma once
// How a run is tracked by ClearML: whose task it is, what goes there, and how it ends. On rank 0 only.

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app/run_config.h"
#include "app/session.h"
#include "lab/app/run_folder.h"
#include "lab/track/clearml_sender.h"
#include "lab/track/clearml_settings.h"
#include "lab/track/clearml_thread.h"
#include "lab/track/machine_use.h"
#include "lab/track/spool.h"
#include "lab/train/checkpoint.h"

namespace lab {

// The server that this machine's settings name, and whose task a ClearML agent started us for ("": nobody's).
struct ClearmlAccess {
  std::optional<ClearmlSettings> settings;  // none: offline, or nothing is configured
  std::string agent_task;
  std::string why_not;      // said in the log where there are no settings
  ClearmlSettings offline;  // then: what an offline session is to know of a server
};
// Throws ConfigError for settings that make no sense.
ClearmlAccess clearml_access(bool offline);

// What somebody edited on the server before an agent started us: KEY=VALUE as --set takes them, in TOML.
// Throws Unavailable, ConfigError. Empty where there is no agent.
std::vector<std::string> edited_values(const ClearmlAccess& access);

// Tells an agent's task why its run did not begin, where the server hears it within 5 s. Never throws.
void fail_agent_task(const ClearmlAccess& access, const std::string& error) noexcept;

// A run's records for ClearML, from before its folder is there to the end of the process. What goes wrong
// with the server after the start is said and never thrown.
class Tracking {
 public:
  // Throws ConfigError for a task that cannot be.
  Tracking(const Session& session, const RunConfig& config, const ClearmlAccess& access);
  ~Tracking();

  // The name of a new run and its task's id. Asks the server for up to 5 s; without an answer the version is
  // "pending", without a server "offline". Throws Unavailable when [task] says that there must be a task, or
  // for an agent's that cannot be had.
  struct Name {
    std::string name, task_id;
  };
  Name name_new_run(const RunNames& names);

  // The run's folder is there, and its name: its spool is opened, what is told to ClearML goes there, and
  // sending begins. Throws DataError, IoError.
  std::shared_ptr<Spool> open(const RunFolder& folder, const RunNames& names, const std::string& name);
  // A checkpoint is on the disk; from the thread that writes them.
  void saved(const RunState& state);
  // Somebody has aborted the task on the server: as if the user had sent a signal. For any thread.
  bool aborted() const { return aborted_; }

  // The last thing: status is completed, failed or stopped. Waits for the server, for so long at most.
  void end(const std::string& status, const std::string& reason, const std::string& message,
           std::chrono::milliseconds most = std::chrono::milliseconds(9'000));
  // As far as it is known by now.
  std::optional<TaskIdentity> task() const;

 private:
  TaskDescription describe(const RunNames& names) const;
  void stop_for_abort();
  void write_session() const;

  const Session& session_;
  const RunConfig& config_;
  Log log_;
  ClearmlAccess access_;
  std::optional<TaskDescription> description_;
  TaskClaim claim_;
  std::string folder_, name_;
  std::shared_ptr<Spool> spool_;
  std::unique_ptr<MachineMonitor> monitor_;
  std::unique_ptr<ClearmlSender> sender_;
  std::unique_ptr<ClearmlThread> thread_;
  std::atomic<bool> aborted_ = false, ended_ = false;
};

}  // namespace lab
