#pragma once
// Models of earlier tasks as files of this machine: looked up at a ClearML server, fetched once, kept.
//
// They lie in ROOT/<task name>-<task id>/train/model_weights/<model name>.<ending>, and beside each a record
// <model name>.<ending>.json of what it is. What a server calls things never leads out of ROOT: names become
// letters, digits and the like, cut to a length. A file is used again only while the server says that the
// model is the same and the file's size and checksum are those of the record.

#include <chrono>
#include <optional>
#include <string>

#include "lab/core/log.h"
#include "lab/track/clearml_api.h"

namespace lab {

// An output model of a task, by its name there: "best", "last" or another.
struct ModelOfTask {
  std::string task_id, name;
};

// "task:ID/NAME" or "task:ID", which is "last"; nothing where `words` does not begin with "task:". Throws
// UsageError for what begins so and goes on otherwise.
std::optional<ModelOfTask> model_in(const std::string& words);

struct FetchOptions {
  std::string root;
  ApiOptions api = {};
  std::chrono::milliseconds answer{15'000};  // until the server has said what the model is
  std::chrono::milliseconds file{540'000};   // until the file is here; less than a rank may stand still
};

struct FetchedModel {
  std::string path;
  std::string task_id, task_name;
};

// Asks the server and fetches the file: http and https are downloaded, files of this machine copied. Where
// the server cannot be reached, the file of an earlier time is used, and the log says so. Throws
// InputNotFound (no such task, model or file), ConfigError (no credentials, or without rights), Unavailable
// (not reachable, nothing kept; or an address that is not spoken here), DataError (what came is not what was
// uploaded), IoError.
FetchedModel fetch_model(const ClearmlSettings& settings, const ModelOfTask& model,
                         const FetchOptions& options, const Log& log);

// The file of an earlier time, without asking: no socket is opened. `why` is said in the log, or in the
// Unavailable that is thrown when there is none that is whole.
FetchedModel kept_model(const ModelOfTask& model, const std::string& root, const std::string& why,
                        const Log& log);

// For a fetched file that turned out to be no model: it stays, to be looked at, but its record goes, so that
// it is not used again.
void forget(const std::string& path);

}  // namespace lab
