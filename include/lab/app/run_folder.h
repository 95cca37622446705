#pragma once
// The name of a run, its folder, and run.json in it: the truth about the run, by which other tools find it.

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "lab/train/best.h"

namespace lab {

struct RunNames {
  std::string experiment;
  std::string stem;  // the config's file name without .toml
  bool dev = false;
};

// "mnist-mnist_offline", "mnist-mnist_v3", "dev_mnist-mnist_pending"; version is "offline", "v3" or
// "pending". Throws ConfigError for an experiment or stem that is empty or has a '-' (which parts the name)
// or a '/'.
std::string task_name(const RunNames& names, const std::string& version);
// Whether a run's name is one of these names, with any version.
bool is_version_of(const std::string& task_name, const RunNames& names);

// The name of the folder of a run with this name, which a server may have given: in its place, seen by `ls`,
// and short enough for a file system.
std::string folder_name(const std::string& task_name);

// What run.json holds, in its order. Texts that are no UTF-8 are mended, numbers that are not finite are
// null.
struct RunRecord {
  std::string status = "running";  // or "completed", "failed", "stopped", "interrupted"
  std::string launch_id;           // of lab_run
  std::string name, task_id, parent;
  std::string config_hash;  // checksum() of the resolved config's text
  std::vector<std::string> argv;
  std::string host;
  int64_t pid = 0;
  int64_t world_size = 1;
  std::map<std::string, std::string> slurm;     // SLURM_JOB_ID, ...
  std::map<std::string, std::string> versions;  // of lab, torch, openmpi, hdf5
  std::string instruction_set;
  std::optional<int> exit_code;  // none while it runs
  std::string error;             // what it failed with
  std::optional<Best> best;
  std::string started, ended;  // utc_text()
  int64_t epochs = 0, steps = 0;
  // Processes that began with the run, and how many of them in a row, the last one included, from the same
  // step.
  int64_t starts = 1, starts_from_step = 1, started_from_step = 0;
};

// "2026-03-01T12:00:00Z"
std::string utc_text(std::chrono::system_clock::time_point time);

// The folder of one run; a value, it owns nothing. To be made on rank 0 only.
class RunFolder {
 public:
  // Makes root/NAME with checkpoints/ inside, or root/NAME.2, root/NAME.3, ... where earlier runs have those
  // names: a folder is never shared, even by runs that start at once. Throws IoError.
  static RunFolder create(const std::string& root, const std::string& name);

  // The folder of an earlier run, and its run.json. Throws InputNotFound for a path that is none, DataError
  // for a run.json that cannot be read.
  static RunFolder open(const std::string& path);
  RunRecord read_run_json() const;

  const std::string& path() const { return path_; }
  std::string name() const;                         // the last part of the path
  std::string file(const std::string& name) const;  // path of a file in it
  std::string checkpoints() const { return file("checkpoints"); }

  // Replaces run.json: a reader sees the old one or the new one. Throws IoError.
  void write_run_json(const RunRecord& record) const;

 private:
  explicit RunFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

}  // namespace lab
