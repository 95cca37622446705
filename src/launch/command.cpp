#include "lab/launch/command.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <set>

#include "lab/core/cores.h"
#include "lab/core/error.h"

namespace lab {
namespace {

bool names_hosts(std::span<const std::string> words) {
  constexpr std::array names = {"H",        "host", "hostfile", "machinefile", "default-hostfile",
                                "rankfile", "app"};
  return std::any_of(words.begin(), words.end(), [&](const std::string& word) {
    const size_t dashes = word.find_first_not_of('-');
    return dashes != 0 && dashes != std::string::npos &&
           std::find(names.begin(), names.end(), word.substr(dashes)) != names.end();
  });
}

void append(std::vector<std::string>& words, std::span<const std::string> more) {
  words.insert(words.end(), more.begin(), more.end());
}

LaunchCommand with_srun(const LaunchRequest& request, const Surroundings& around, const std::string& folder) {
  LaunchCommand out;
  out.ranks = request.ranks > 0 ? request.ranks : around.slurm_tasks;
  out.on_this_machine = around.slurm_nodes == 1;
  out.words = {around.srun, "-n", text(out.ranks), "--mpi=pmix", "--kill-on-bad-exit=1"};
  if (out.on_this_machine) out.environment = {{"OMPI_MCA_btl_vader_backing_directory", folder}};
  return out;
}

LaunchCommand with_mpirun(const LaunchRequest& request, const Surroundings& around,
                          const std::string& folder) {
  LaunchCommand out;
  out.ranks = request.ranks > 0 ? request.ranks : around.slurm_tasks;
  out.on_this_machine = !around.slurm && !around.other_scheduler && !names_hosts(request.for_launcher);
  out.words = {around.mpirun, "-np", text(out.ranks)};
  if (out.on_this_machine) {
    if (out.ranks > around.cores)
      append(out.words, std::array<std::string, 3>{"--oversubscribe", "--bind-to", "none"});
    append(out.words, std::array<std::string, 6>{"--mca", "orte_tmpdir_base", folder, "--mca",
                                                 "btl_vader_backing_directory", folder});
  }
  for (const char* name : {run_id_variable, progress_variable, own_run_variable})
    append(out.words, std::array<std::string, 2>{"-x", name});
  if (around.root)
    out.environment = {{"OMPI_ALLOW_RUN_AS_ROOT", "1"}, {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"}};
  return out;
}

}  // namespace

LaunchCommand launch_command(const LaunchRequest& request, const Surroundings& around,
                             const std::string& program, const std::string& folder) {
  if (request.ranks == 0 && around.slurm_tasks == 0)
    throw UsageError("how many ranks? lab_run -np N ", request.program,
                     " ...; only a Slurm job that was given a ", "number of tasks can do without");
  const bool srun = around.slurm && !around.srun.empty();
  if (!srun && around.mpirun.empty())
    throw Unavailable("there is no mpirun in PATH", around.slurm ? ", nor srun" : "",
                      "; install Open MPI (Debian: openmpi-bin) or load its module");
  LaunchCommand out = srun ? with_srun(request, around, folder) : with_mpirun(request, around, folder);
  append(out.words, request.for_launcher);
  out.words.push_back(program);
  append(out.words, request.for_program);
  return out;
}

std::vector<std::string> resuming(std::vector<std::string> for_program) {
  const auto end = std::find(for_program.begin(), for_program.end(), "--");
  const auto is_resume = [](const std::string& word) {
    return word == "--resume" || word.starts_with("--resume=");
  };
  if (std::none_of(for_program.begin(), end, is_resume)) for_program.insert(end, "--resume");
  return for_program;
}

std::optional<std::string> find_program(const std::string& name, std::span<const std::string> folders) {
  const auto runs = [](const std::string& path) {
    std::error_code ignored;
    return std::filesystem::is_regular_file(path, ignored) && access(path.c_str(), X_OK) == 0;
  };
  if (name.find('/') != std::string::npos) return runs(name) ? std::optional(name) : std::nullopt;
  for (const std::string& folder : folders)
    if (const std::string path = folder + "/" + name; !folder.empty() && runs(path)) return path;
  return std::nullopt;
}

int usable_cores() {
  const cpu_set_t mask = own_cores();
  std::set<std::string> cores;
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (!CPU_ISSET(i, &mask)) continue;
    std::string siblings = text("cpu ", i);  // where the kernel does not say
    std::ifstream file(text("/sys/devices/system/cpu/cpu", i, "/topology/thread_siblings_list"));
    std::getline(file, siblings);
    cores.insert(siblings);
  }
  return std::max(1, static_cast<int>(cores.size()));
}

}  // namespace lab
