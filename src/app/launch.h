#pragma once
// How this process was started, as the launcher left it in the environment. The only place that reads it.

#include <map>
#include <string>

#include "lab/comm/communicator.h"

namespace lab {

struct Launch {
  bool by_mpi = false;           // mpirun or srun: MPI must be joined; else this is one rank alone
  bool bound_by_mpirun = false;  // it chose each rank's cores among all that it may use itself
  int rank_hint = 0;             // before MPI is joined: who speaks of a wrong command line
  std::map<std::string, std::string> slurm;  // SLURM_JOB_ID and the like, where there is one
  // lab_run's variables (core/run_variables.h); empty without it.
  std::string launch_id, progress_file;
  bool own_run_only = false;  // a bare --resume means a run of that launch id, or none
};

Launch detect_launch();

// How many threads this rank computes with: the cores that it is bound to over the ranks of its node that are
// bound to the same ones, at least 1. What mpirun left without a rank, near these, becomes the spare cores
// (core/cores.h). Collective, before there are threads that may use them.
int share_cores(Communicator& comm, const Launch& launch);

}  // namespace lab
