#pragma once
// A run's spool as an offline session of ClearML: a folder that the SDK's Task.import_offline_session turns
// into a task, on any machine that reaches a server.

#include <string>

#include "lab/core/log.h"
#include "lab/track/clearml_settings.h"

namespace lab {

// Writes RUN_FOLDER/clearml_offline/offline-<32 hex digits>/ from the spool of a run that has ended, in
// whatever way, and returns its absolute path. Of a run that went on since, the same folder is written anew:
// it is there in full or not at all. For one process at a time.
//
// The importer calls every task completed, so one that was not has a tag "failed", "stopped" or "unfinished"
// (its process was killed), and the reason in its comment; there, too, stands the id of the parent, since a
// server that lacks it refuses the import. Output models are referred to, not copied. Where they go on import
// is what [task] output_uri said, or else `settings`; where that says nothing either, they are registered
// with their paths only, and the log says so. It also says how many records could not be used.
//
// Memory does not grow with the spool, but for points that were said again. Throws InputNotFound (no run
// folder, no spool), DataError (the spool does not say what the task is), IoError.
std::string write_offline_session(const std::string& run_folder, const std::string& task_name,
                                  const ClearmlSettings& settings, const Log& log);

}  // namespace lab
