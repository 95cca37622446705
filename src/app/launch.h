#pragma once
// How this process was started, as the launcher left it in the environment. The only place that reads it.

#include <map>
#include <string>

#include "lab/comm/communicator.h"

namespace lab {

struct Launch {
  bool by_mpi = false;  // mpirun or srun: MPI must be joined; else this is one rank alone
  int rank_hint = 0;    // before MPI is joined: who speaks of a wrong command line
  std::map<std::string, std::string> slurm;  // SLURM_JOB_ID and the like, where there is one
  std::string launch_id;      // LAB_RUN_ID: lab_run's, the same at each restart; empty without it
  bool own_run_only = false;  // LAB_RUN_OWN: a bare --resume means a run of that launch id, or none
  std::string progress_file;  // LAB_RUN_PROGRESS: where lab_run reads how far the run was saved
};

Launch detect_launch();
std::string host_name();

// Cores of this rank's affinity mask over the ranks of its node that share the mask, at least 1. Collective.
int fair_threads(Communicator& comm);

}  // namespace lab
