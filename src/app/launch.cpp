#include "app/launch.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <functional>
#include <vector>

#include "lab/core/process.h"
#include "lab/core/run_variables.h"

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
  if (const char* id = first_set({run_id_variable})) launch.launch_id = id;
  if (const char* own = first_set({own_run_variable})) launch.own_run_only = std::string(own) == "1";
  if (const char* file = first_set({progress_variable})) launch.progress_file = file;
  return launch;
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
