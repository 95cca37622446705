#include "app/launch.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <functional>
#include <vector>

#include "lab/core/process.h"

namespace lab {
namespace {

const char* first_set(std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (const char* value = std::getenv(name)) return value;
  return nullptr;
}

}  // namespace

Launch detect_launch() {
  Launch launch;
  const char* rank = first_set({"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"});
  launch.by_mpi = rank != nullptr;
  if (rank) launch.rank_hint = std::atoi(rank);
  for (const char* name :
       {"SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT"})
    if (const char* value = std::getenv(name)) launch.slurm[name] = value;
  if (const char* id = first_set({"LAB_RUN_ID"})) launch.launch_id = id;
  launch.own_run_only = first_set({"LAB_RUN_OWN"}) != nullptr;
  if (const char* file = first_set({"LAB_RUN_PROGRESS"})) launch.progress_file = file;
  return launch;
}

std::string host_name() {
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  return host.data();
}

int fair_threads(Communicator& comm) {
  std::vector<int64_t> masks(static_cast<size_t>(comm.size()), 0);
  const auto mine = static_cast<int64_t>(std::hash<std::string>()(affinity_mask() + host_name()));
  masks[static_cast<size_t>(comm.rank())] = mine;
  comm.all_gather({masks.data(), comm.size(), DType::i64});
  const auto sharing = static_cast<int>(std::count(masks.begin(), masks.end(), mine));
  return std::max(1, cores_in_affinity_mask() / sharing);
}

}  // namespace lab
