#pragma once
// How far a run's spool was sent: clearml.json beside it.

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "lab/core/log.h"
#include "lab/track/clearml_task.h"
#include "track/spool_lines.h"

namespace lab::detail {

struct SenderState {
  std::optional<TaskIdentity> task;
  bool adopted = false;  // an agent's task: its console is the agent's to send
  int64_t offset = 0;    // bytes of the spool that are dealt with
  // Timestamps of console lines: those up to `console_sent` are on the server; where `console_tried` is
  // later, it is not known whether those between are.
  int64_t console_sent = 0, console_tried = 0;
  std::map<std::string, SpooledModel> waiting;  // by slot: what is not on the server yet
  std::string status;                           // the last that the server was told
  std::optional<SpooledStatus> end;             // what the run said last; none while it goes on
  int64_t lost = 0;                             // records that the server did not take
  bool end_is_told() const { return !end || end->status == status; }
};

// A run folder's state; where there is none yet, the beginning. Throws DataError, IoError.
SenderState read_sender_state(const std::string& run_folder);
// The beginning also for one that cannot be read, which the log says.
SenderState known_sender_state(const std::string& run_folder, const Log& log);
void write_sender_state(const std::string& run_folder, const SenderState& state);  // IoError

}  // namespace lab::detail
