#include "lab/app/run_folder.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "lab/core/error.h"
#include "lab/core/process.h"
#include "lab/core/utf8.h"

namespace lab {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* choose_another_place =
    "; check its rights and free space, or choose another place with trainer.init.default_root_dir";

void check_name(const std::string& what, const std::string& value, const std::string& hint) {
  if (value.empty()) throw ConfigError("the ", what, " is empty; ", hint);
  if (const size_t at = value.find_first_of("-/"); at != std::string::npos)
    throw ConfigError("the ", what, " ", lab::quoted(value), " has a '", value[at],
                      "', which the names of runs and their folders cannot take; ", hint);
}

std::string to_json(const RunRecord& record) {
  Json best;
  if (record.best)
    best = {{"monitor", record.best->monitor},
            {"value", record.best->value},
            {"epoch", record.best->epoch},
            {"step", record.best->step}};
  const Json json = {{"status", record.status},
                     {"launch_id", record.launch_id},
                     {"name", record.name},
                     {"task_id", record.task_id},
                     {"parent", record.parent},
                     {"config_hash", record.config_hash},
                     {"argv", record.argv},
                     {"host", record.host},
                     {"pid", record.pid},
                     {"world_size", record.world_size},
                     {"slurm", record.slurm},
                     {"versions", record.versions},
                     {"instruction_set", record.instruction_set},
                     {"exit_code", record.exit_code ? Json(*record.exit_code) : Json()},
                     {"error", record.error},
                     {"best", best},
                     {"started", record.started},
                     {"ended", record.ended},
                     {"epochs", record.epochs},
                     {"steps", record.steps},
                     {"starts", record.starts},
                     {"starts_from_step", record.starts_from_step},
                     {"started_from_step", record.started_from_step}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
}

RunRecord from_json(const Json& json) {
  RunRecord record;
  record.status = json.at("status").get<std::string>();
  record.launch_id = json.value("launch_id", "");
  record.name = json.at("name").get<std::string>();
  record.task_id = json.value("task_id", "");
  record.parent = json.value("parent", "");
  record.host = json.value("host", "");
  record.slurm = json.value("slurm", record.slurm);
  record.started = json.value("started", "");
  record.epochs = json.value("epochs", int64_t{0});
  record.steps = json.value("steps", int64_t{0});
  record.config_hash = json.value("config_hash", "");
  record.argv = json.value("argv", record.argv);
  record.pid = json.value("pid", int64_t{0});
  record.world_size = json.value("world_size", int64_t{1});
  record.versions = json.value("versions", record.versions);
  record.instruction_set = json.value("instruction_set", "");
  if (json.contains("exit_code") && json["exit_code"].is_number())
    record.exit_code = json["exit_code"].get<int>();
  record.error = json.value("error", "");
  record.ended = json.value("ended", "");
  if (const auto best = json.find("best");
      best != json.end() && best->is_object() && best->at("value").is_number())
    record.best = Best{best->at("monitor"), best->at("value"), best->at("epoch"), best->at("step")};
  record.starts = json.value("starts", int64_t{1});
  record.starts_from_step = json.value("starts_from_step", int64_t{1});
  record.started_from_step = json.value("started_from_step", int64_t{0});
  return record;
}

}  // namespace

std::string task_name(const RunNames& names, const std::string& version) {
  check_name("experiment's name", names.experiment, "rename it where it is registered, with '_' instead");
  check_name("config's file name", names.stem, "rename the file, with '_' instead");
  return text(names.dev ? "dev_" : "", names.experiment, '-', names.stem, '_', version);
}

bool is_version_of(const std::string& name, const RunNames& names) {
  const std::string prefix = task_name(names, "");
  const std::string version = name.starts_with(prefix) ? name.substr(prefix.size()) : "";
  const bool number = version.size() > 1 && version[0] == 'v' &&
                      version.find_first_not_of("0123456789", 1) == std::string::npos;
  return number || version == "offline" || version == "pending";
}

std::string folder_name(const std::string& task_name) {
  std::string name = utf8_prefix(task_name, 150);
  std::ranges::replace_if(
      name, [](unsigned char c) { return c == '/' || c < 0x20; }, '_');
  if (name.empty()) return "_";
  if (name.front() == '.') name.front() = '_';
  return name;
}

std::string utc_text(std::chrono::system_clock::time_point time) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  std::array<char, 32> buffer{};
  return {buffer.data(), std::strftime(buffer.data(), buffer.size(), "%Y-%m-%dT%H:%M:%SZ", &utc)};
}

RunFolder RunFolder::create(const std::string& root, const std::string& name) {
  const auto fail = [](const std::string& path, const std::string& reason) {
    throw IoError("cannot make the folder ", path, ": ", reason, choose_another_place);
  };
  std::error_code problem;
  std::filesystem::create_directories(root, problem);
  if (problem) fail(root, problem.message());
  const std::string first = (std::filesystem::path(root) / name).string();
  std::string path = first;
  for (int number = 2; mkdir(path.c_str(), 0777) != 0; ++number) {
    if (errno != EEXIST) fail(path, system_error_text(errno));
    path = text(first, '.', number);
  }
  RunFolder folder(path);
  if (mkdir(folder.checkpoints().c_str(), 0777) != 0) fail(folder.checkpoints(), system_error_text(errno));
  return folder;
}

RunFolder RunFolder::open(const std::string& path) {
  std::error_code problem;
  const auto whole = std::filesystem::canonical(path, problem);
  if (problem || !std::filesystem::exists(whole / "run.json", problem))
    throw InputNotFound(lab::quoted(path),
                        " is no run folder: there is no run.json in it; give the folder of a "
                        "run, as its last line named it, or one of its checkpoints");
  return RunFolder(whole.string());
}

RunRecord RunFolder::read_run_json() const {
  const std::string path = file("run.json");
  try {
    return from_json(Json::parse(read_file(path, "record of the run")));
  } catch (const Json::exception& e) {
    throw DataError(lab::quoted(path), " cannot be read: ", e.what(),
                    "; bring it back from a copy, or start afresh without --resume");
  }
}

std::string RunFolder::name() const { return std::filesystem::path(path_).filename().string(); }

std::string RunFolder::file(const std::string& name) const { return path_ + "/" + name; }

void RunFolder::write_run_json(const RunRecord& record) const {
  try {
    write_file_atomically(file("run.json"), to_json(record));
  } catch (const IoError& error) {
    throw IoError(error.what(), choose_another_place);
  }
}

}  // namespace lab
