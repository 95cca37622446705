#include "lab/core/cores.h"

#include <unistd.h>

namespace lab {
namespace {

cpu_set_t cores_of(pid_t process) {
  cpu_set_t cores;
  if (sched_getaffinity(process, sizeof cores, &cores) != 0) CPU_ZERO(&cores);
  return cores;
}

cpu_set_t spare_cores = {};

}  // namespace

cpu_set_t own_cores() { return cores_of(0); }
cpu_set_t cores_of_parent() { return cores_of(getppid()); }

void set_spare_cores(const cpu_set_t& spare) { spare_cores = spare; }

void use_spare_cores() {
  cpu_set_t cores = own_cores();
  if (CPU_COUNT(&spare_cores) == 0 || CPU_COUNT(&cores) == 0) return;
  CPU_OR(&cores, &cores, &spare_cores);
  sched_setaffinity(0, sizeof cores, &cores);  // where it fails, all stays as it was
}

}  // namespace lab
