// lab_sync: what a run could not send to ClearML while it went on.

#include <chrono>
#include <cxxopts.hpp>
#include <exception>
#include <iostream>
#include <random>
#include <thread>
#include <utility>

#include "app/run_lock.h"
#include "app/tracking.h"
#include "lab/app/programs.h"
#include "lab/app/run_folder.h"
#include "lab/core/error.h"
#include "lab/core/process.h"
#include "lab/core/version.h"
#include "lab/track/offline_session.h"

namespace lab {
namespace {

using std::chrono::milliseconds;

struct Request {
  std::vector<std::string> folders;
  bool offline = false, help = false, version = false;
};

cxxopts::Options options() {
  cxxopts::Options table("lab_sync", "Sends to ClearML what it does not have yet of a run.");
  table.custom_help("RUN_FOLDER ...");
  table.positional_help("");
  table.add_options()("o,offline",
                      "send nothing: leave a session for Task.import_offline_session in the folder")(
      "version", "print the version, and exit")("h,help", "print this, and exit")(
      "folders", "", cxxopts::value<std::vector<std::string>>());
  table.parse_positional("folders");
  return table;
}

std::string help_text() {
  cxxopts::Options table = options();
  return text(
      table.help({""}, false),
      "\nThe server and its keys are those of ~/clearml.conf and the CLEARML_* variables. Exit codes: 0 "
      "all of it is\nthere, 64 wrong words, 65 the server refused some of it or a file is damaged, 66 no "
      "such run "
      "folder, 69\nthe server cannot be had now: try again later.\n");
}

Request parse(int argc, char** argv) {
  try {
    const auto given = options().parse(argc, argv);
    Request request;
    request.help = given.count("help") > 0;
    request.version = given.count("version") > 0;
    request.offline = given.count("offline") > 0;
    if (given.count("folders") > 0) request.folders = given["folders"].as<std::vector<std::string>>();
    if (request.folders.empty() && !request.help && !request.version)
      throw UsageError("lab_sync wants RUN_FOLDER: the folder of a run, as its last line named it");
    return request;
  } catch (const cxxopts::exceptions::exception& e) {
    throw UsageError(e.what(), "; see lab_sync --help");
  }
}

// A process that was killed could not say how its run ended.
void settle(const RunFolder& folder, RunRecord& record, const Log& log) {
  if (record.status != "running") {  // it may have been killed between two words
    const bool good = record.status == "completed";
    if (last_status(folder.path()) == "in_progress")
      Spool(folder.path(), log)
          .status(good                        ? "completed"
                  : record.status == "failed" ? "failed"
                                              : "stopped",
                  record.status, record.error);
    return;
  }
  record.status = "failed";
  record.error = "the run ended without a word: its processes were killed";
  record.ended = utc_text(std::chrono::system_clock::now());
  Spool(folder.path(), log).status("failed", "the run failed", record.error);
  folder.write_run_json(record);
  log.info(folder.path(), " ended without a word: it counts as failed; it may go on with --resume");
}

// Rounds of records and models, as long as each gets on.
void send_all(ClearmlSender& sender, const std::string& path, const Log& log) {
  constexpr milliseconds for_records{30'000};
  for (std::string said; !sender.done();) {
    const std::string left = sender.left();
    if (std::exchange(said, left) != left) log.info(path, ": ", left, " to send");
    auto error = sender.send(for_records);
    const bool waits = error && error->message.empty();
    if (!error || waits) error = sender.upload(std::chrono::hours(24), true);
    if (error && error->failure == HttpFailure::file && !error->temporary)
      throw DataError("what is left of ", path, " cannot be sent: ", error->message,
                      "; bring the file back from a copy, or go on with the run (lab_train --resume)");
    if (error && (!error->temporary || sender.left() == left))
      throw Unavailable("what is left of ", path, " (", sender.left(), ") cannot be sent: ", in_words(*error),
                        "; run lab_sync again when the server is back");
    if (waits) std::this_thread::sleep_for(milliseconds(300));
  }
}

void sync(const RunFolder& folder, RunRecord record, const ClearmlSettings& settings, const Log& log) {
  const std::string& path = folder.path();
  std::random_device device;
  ApiOptions options;
  options.seed = device();
  ClearmlSender sender(path, settings, log, options);
  send_all(sender, path, log);
  const auto task = sender.task();
  if (!task)
    throw DataError(path, "/", spool_file, " is missing or empty: there is nothing to send, and no task; ",
                    "bring it back from a copy");
  if (task->id != record.task_id || task->name != record.name) {
    record.task_id = task->id;
    record.name = task->name;
    folder.write_run_json(record);
  }
  std::cout << path << "  " << task->name << "  " << results_page(settings, *task) << std::endl;
  if (const std::string words = sender.refusals(); !words.empty()) throw DataError(words);
}

void look_after(const std::string& path, const Request& request, const ClearmlAccess& access,
                const Log& log) {
  const RunFolder folder = RunFolder::open(path);
  if (RunLock::is_held(folder.path()))
    throw Unavailable(path,
                      " is still being written: a run sends its records itself; try again when it is over");
  const RunLock lock(folder.path(), false);
  RunRecord record = folder.read_run_json();
  settle(folder, record, log);
  if (request.offline)
    std::cout << write_offline_session(folder.path(), record.name, access.offline, log) << std::endl;
  else
    sync(folder, std::move(record), *access.settings, log);
}

int run(const Request& request, const Log& log) {
  if (request.help) std::cout << help_text();
  if (request.version) std::cout << "lab_sync " << version << "\n";
  if (request.help || request.version) return 0;
  const ClearmlAccess access = clearml_access(request.offline);
  if (!access.settings && !request.offline)
    throw Unavailable("there is no server to send to: ", access.why_not);
  ExitCode code = ExitCode::done;
  for (const auto& folder : request.folders) try {
      look_after(folder, request, access, log);
    } catch (const Error& e) {  // the others may do better
      log.error(e.what());
      code = e.code();
    }
  return static_cast<int>(code);
}

}  // namespace

int sync_main(int argc, char** argv) {
  start_process();
  const Log log;
  try {
    return run(parse(argc, argv), log);
  } catch (const Error& e) {
    log.error(e.what());
    return static_cast<int>(e.code());
  } catch (const std::exception& e) {
    log.error("unexpected error: ", e.what());
    return static_cast<int>(ExitCode::bug);
  }
}

}  // namespace lab
