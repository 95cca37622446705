#include "app/launch.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <functional>
#include <vector>

#include "lab/core/cores.h"
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
  // Inside a Slurm job its processes on other nodes may run on other jobs' cores.
  launch.bound_by_mpirun =
      launch.slurm.empty() && first_set({"OMPI_MCA_orte_bound_at_launch"}) &&
      !first_set({"OMPI_MCA_hwloc_base_cpu_list", "OMPI_MCA_hwloc_base_cpu_set", "OMPI_MCA_orte_rankfile"});
  if (const char* id = first_set({run_id_variable})) launch.launch_id = id;
  if (const char* own = first_set({own_run_variable})) launch.own_run_only = std::string(own) == "1";
  if (const char* file = first_set({progress_variable})) launch.progress_file = file;
  return launch;
}

int share_cores(Communicator& comm, const Launch& launch) {
  struct Place {
    size_t node;
    cpu_set_t cores;
  };
  std::vector<Place> places(static_cast<size_t>(comm.size()));
  Place& mine = places[static_cast<size_t>(comm.rank())];
  mine = {std::hash<std::string>()(host_name()), own_cores()};
  comm.all_gather({places.data(), static_cast<int64_t>(places.size() * sizeof mine), DType::u8});
  int sharing = 0;
  cpu_set_t spare = cores_of_parent();
  const cpu_set_t near = cores_near(mine.cores);
  CPU_AND(&spare, &spare, &near);
  for (const Place& place : places) {
    if (place.node != mine.node) continue;
    sharing += CPU_EQUAL(&place.cores, &mine.cores);
    cpu_set_t taken;
    CPU_AND(&taken, &place.cores, &spare);
    CPU_XOR(&spare, &spare, &taken);
  }
  if (launch.bound_by_mpirun) set_spare_cores(spare);
  return std::max(1, CPU_COUNT(&mine.cores) / sharing);
}

}  // namespace lab
