#include "lab/track/offline_session.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "lab/core/error.h"
#include "lab/core/process.h"
#include "lab/core/version.h"
#include "lab/track/spool.h"
#include "track/spool_reader.h"
#include "track/task_content.h"

namespace lab {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using detail::SpoolDigest;
using detail::SpooledModel;

constexpr size_t most_events = 1000;                  // of one request
constexpr size_t most_bytes = size_t{1} << 20;        // of one request, where an event alone is not larger
constexpr size_t largest_event = size_t{15'000'000};  // a server takes 15,728,640 bytes at once
const std::string public_files_host = "https://files.clear.ml";

void must(const std::error_code& problem, const std::string& path) {
  if (problem)
    throw IoError("cannot write the offline session ", path, ": ", problem.message(),
                  "; check rights and free space");
}

// A file whose lines are lists of events: what the importer sends as one request.
class EventFile {
 public:
  explicit EventFile(const std::string& path) : path_(path), out_(path, std::ios::binary) {}

  void add(const std::string& event) {
    if (event.size() > largest_event) {
      ++left_out_;
      return;
    }
    if (events_ == most_events || line_.size() + event.size() > most_bytes) end_line();
    line_ += events_++ == 0 ? '[' : ',';
    line_ += event;
  }

  // How many events are too large for any server.
  int64_t finish() {
    end_line();
    out_.close();
    if (!out_)
      throw IoError("cannot write ", path_, ": ", system_error_text(errno), "; check rights and free space");
    return left_out_;
  }

 private:
  void end_line() {
    if (events_ > 0) out_ << line_ << "]\n";
    line_.clear();
    events_ = 0;
  }

  std::string path_;
  std::ofstream out_;
  std::string line_;
  size_t events_ = 0;
  int64_t left_out_ = 0;
};

// Twice the token that the task has from its first record on.
std::string session_id(const std::string& token, const std::string& spool) {
  const bool hex = token.size() == 16 && token.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (!hex) throw DataError("the task in ", spool, " has the token ", quoted(token), ", not 16 hex digits");
  return "offline-" + token + token;
}

// Where the importer puts the files of models; "": nowhere, they stay where they are.
std::string models_destination(const std::string& output_uri, const ClearmlSettings& settings) {
  if (output_uri == "false") return "";
  if (output_uri.empty() || output_uri == "true") {
    // Without any settings the files host is that of ClearML's own servers, which nobody has asked for.
    const bool known = settings.configured() || settings.files_host != public_files_host;
    return settings.default_output_uri.empty() && known ? settings.files_host : settings.default_output_uri;
  }
  return output_uri.find("://") == std::string::npos ? fs::absolute(output_uri).string() : output_uri;
}

// The file as it was spooled or, where the run folder has moved since, in its present place.
std::string present_file(const std::string& run_folder, const std::string& spooled) {
  const fs::path file = spooled;
  const fs::path moved = fs::path(run_folder) / file.parent_path().filename() / file.filename();
  std::error_code ignored;
  if (fs::is_regular_file(file, ignored)) return fs::absolute(file).string();
  return fs::is_regular_file(moved, ignored) ? moved.string() : "";
}

Json models_of(const SpoolDigest& digest, const std::string& run_folder, const std::string& id,
               const std::string& task_name, const ClearmlSettings& settings, const Log& log) {
  const std::string destination = models_destination(digest.task->output_uri, settings);
  Json models = Json::array();
  for (const auto& [slot, model] : digest.models) {
    const std::string file = present_file(run_folder, model.file);
    if (file.empty()) {
      log.warn("the output model ", quoted(slot), " is not in the offline session: ", model.file,
               " is not there");
      continue;
    }
    Json entry = {{"id", id + "-" + slot},
                  {"init",
                   {{"name", task_name + " - " + slot},
                    {"framework", "PyTorch"},
                    {"label_enumeration", Json::object()},
                    {"tags", Json::array()},
                    {"config_text", model.design}}},
                  // The file's name without its ending becomes the slot.
                  {"weights",
                   {{"weights_filename", file},
                    {"target_filename", slot + fs::path(file).extension().string()},
                    {"iteration", model.iteration}}}};
    if (!destination.empty()) entry["output_uri"] = destination;
    models.push_back(entry);
  }
  if (!models.empty() && destination.empty() && digest.task->output_uri != "false") {
    log.info("models go by their paths: no file server is configured");
    log.info("once one is: lab_sync --offline ", run_folder);
  }
  return models;
}

// The tag for a status that the importer cannot give the task.
std::string tag_of(const std::string& status) {
  if (status == "completed") return "";
  return status == "failed" || status == "stopped" ? status : "unfinished";
}

std::string comment_of(const SpoolDigest& digest, const std::string& run_folder) {
  std::string comment = text("lab ", version, ", offline run in ", run_folder);
  const auto& [status, reason, message] = digest.status;
  if (const std::string tag = tag_of(status); !tag.empty()) {
    comment += '\n' + tag;
    for (const std::string& part : {reason, message})
      if (!part.empty() && tag != "unfinished") comment += ": " + part;
  }
  if (!digest.task->parent.empty()) comment += "\nparent task: " + digest.task->parent;
  return comment;
}

Json task_of(const SpoolDigest& digest, const std::string& id, const std::string& name,
             const std::string& run_folder, const std::string& folder) {
  const TaskDescription& task = *digest.task;
  std::vector<std::string> tags = task.tags;
  if (const std::string tag = tag_of(digest.status.status); !tag.empty()) tags.push_back(tag);
  Json body = {{"id", id},
               {"name", name},
               {"project_name", task.project},
               {"type", task.type},
               {"tags", tags},
               {"system_tags", {"development"}},
               {"comment", comment_of(digest, run_folder)},
               {"runtime", Json::object()},
               {"offline_folder", folder}};
  body.update(Json(detail::content_of(task)));
  return body;
}

// A folder that is gone again unless it got another name: where the disk is full it would only take room.
class UnfinishedFolder {
 public:
  explicit UnfinishedFolder(std::string path) : path_(std::move(path)) {
    std::error_code problem;
    fs::remove_all(path_, problem);  // of a process that was killed
    must(problem, path_);
    fs::create_directories(path_, problem);
    must(problem, path_);
  }
  ~UnfinishedFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  UnfinishedFolder(const UnfinishedFolder&) = delete;
  UnfinishedFolder& operator=(const UnfinishedFolder&) = delete;

 private:
  std::string path_;
};

// Puts the finished folder into its place. What was there may have been written by this function before, and
// can be again.
void replace_folder(const std::string& finished, const std::string& place) {
  std::error_code problem;
  fs::remove_all(place, problem);
  must(problem, place);
  fs::rename(finished, place, problem);
  must(problem, place);
}

}  // namespace

std::string write_offline_session(const std::string& run_folder, const std::string& task_name,
                                  const ClearmlSettings& settings, const Log& log) {
  const std::string run = fs::absolute(run_folder).lexically_normal().string();
  const std::string spool = run + "/" + spool_file;
  const SpoolDigest digest = detail::digest_of(spool);
  if (!digest.task)
    throw DataError(
        spool, " does not say what the task is: the run ended before it had begun, or the file's ",
        "first line is damaged; go on with it (lab_train --resume), which tells the task again, or bring ",
        "the file back from a copy");
  const std::string id = session_id(digest.task->token, spool);
  const std::string sessions = run + "/clearml_offline", place = sessions + "/" + id;
  const std::string unfinished = sessions + "/." + id + ".partial";

  const UnfinishedFolder folder(unfinished);
  EventFile points(unfinished + "/metrics.jsonl"), console(unfinished + "/log.jsonl");
  detail::replay_events(
      spool, digest, id, [&](const std::string& event) { points.add(event); },
      [&](const std::string& event) { console.add(event); });
  const int64_t left_out = digest.damaged + points.finish() + console.finish();

  Json task = task_of(digest, id, task_name, run, place);
  task["offline_output_models"] = models_of(digest, run, id, task_name, settings, log);
  write_file_atomically(unfinished + "/task.json",
                        task.dump(2, ' ', true, Json::error_handler_t::replace) + "\n");
  replace_folder(unfinished, place);
  if (left_out > 0)
    log.warn(left_out, " of the ", digest.lines, " records in ", spool,
             " are damaged or too large for a server: the offline session lacks them");
  return place;
}

}  // namespace lab
