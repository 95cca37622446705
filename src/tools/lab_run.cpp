// lab_run -np N [options] lab_train CONFIG.toml ...: starts ranks and keeps them going.
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <iostream>
#include <random>
#include <sstream>

#include "lab/core/error.h"
#include "lab/core/process.h"
#include "lab/core/program.h"
#include "lab/core/version.h"
#include "lab/launch/supervisor.h"

extern char** environ;

namespace {

using namespace lab;

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

int number(const std::string& text, int otherwise) {
  int out = 0;
  const auto [stop, problem] = std::from_chars(text.data(), text.data() + text.size(), out);
  return problem == std::errc() && stop == text.data() + text.size() && out > 0 ? out : otherwise;
}

std::vector<std::string> search_path() {
  std::vector<std::string> folders;
  std::istringstream path(variable("PATH"));
  for (std::string folder; std::getline(path, folder, ':');) folders.push_back(folder);
  return folders;
}

Surroundings look_around(const std::vector<std::string>& path) {
  Surroundings around;
  around.mpirun = find_program("mpirun", path).value_or("");
  around.srun = find_program("srun", path).value_or("");
  around.squeue = find_program("squeue", path).value_or("");
  around.slurm_job = variable("SLURM_JOB_ID");
  around.slurm = !around.slurm_job.empty();
  around.slurm_tasks = number(variable("SLURM_NTASKS"), 0);
  around.slurm_nodes = number(variable("SLURM_JOB_NUM_NODES"), 1);
  for (const char* name : {"PBS_NODEFILE", "LSB_HOSTS", "LSB_DJOB_HOSTFILE", "PE_HOSTFILE"})
    around.other_scheduler = around.other_scheduler || !variable(name).empty();
  around.root = geteuid() == 0;
  around.cores = usable_cores();
  return around;
}

Places places_of_this_machine() {
  Places places;
  places.host = host_name();
  if (const std::string temporary = variable("TMPDIR"); !temporary.empty()) places.temporary = temporary;
  places.user = geteuid();
  return places;
}

std::string random_id() {
  std::random_device random;
  std::ostringstream out;
  out << std::hex;
  for (int i = 0; i < 16; ++i) out << (random() & 0xf);
  return out.str();
}

std::vector<std::string> environment_for_ranks() {
  std::vector<std::string> out;
  for (char** entry = environ; *entry; ++entry) {
    const std::string one = *entry;
    const auto names_it = [&](const char* name) { return one.starts_with(text(name, "=")); };
    if (!names_it(run_id_variable) && !names_it(progress_variable) && !names_it(own_run_variable))
      out.push_back(one);
  }
  return out;
}

std::string program_of(const LaunchRequest& request, std::vector<std::string> folders) {
  folders.insert(folders.begin(), program_folder());
  const auto found = find_program(request.program, folders);
  if (!found)
    throw InputNotFound(
        "there is no program ", quoted(request.program),
        request.program.find('/') == std::string::npos ? text(" beside lab_run or in PATH") : "",
        "; build it, or name its path (options of lab_run stand before it)");
  return *found;
}

int run(const std::vector<std::string>& words) {
  const LaunchRequest request = parse_launch_request(words);
  if (request.help) std::cout << launch_help();
  if (request.version) std::cout << "lab_run " << version << "\n";
  if (request.help || request.version) return static_cast<int>(ExitCode::done);
  const std::vector<std::string> path = search_path();
  const Job job{request,
                look_around(path),
                places_of_this_machine(),
                program_of(request, path),
                environment_for_ranks(),
                random_id()};
  return supervise(job, Log());
}

}  // namespace

int main(int argc, char** argv) {
  return run_program("lab_run", [&] { return run({argv + 1, argv + argc}); });
}
