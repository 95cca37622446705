#include "lab/app/run_folder.h"

#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "lab/core/error.h"
#include "lab/core/process.h"

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
                     {"steps", record.steps}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
}

}  // namespace

std::string task_name(const RunNames& names, const std::string& version) {
  check_name("experiment's name", names.experiment, "rename it where it is registered, with '_' instead");
  check_name("config's file name", names.stem, "rename the file, with '_' instead");
  return text(names.dev ? "dev_" : "", names.experiment, '-', names.stem, '_', version);
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
