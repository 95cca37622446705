#include "lab/core/cores.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace lab {
namespace {

cpu_set_t cores_of_process(pid_t process) {
  cpu_set_t cores;
  if (sched_getaffinity(process, sizeof cores, &cores) != 0) CPU_ZERO(&cores);
  return cores;
}

// Of the kernel's lists: "0-3,8".
cpu_set_t cores_in(std::istream& list) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  for (int first = 0; list >> first; list.ignore()) {
    int last = first;
    if (list.peek() == '-') list.ignore() >> last;
    for (int core = first; core <= std::min(last, CPU_SETSIZE - 1); ++core) CPU_SET(core, &cores);
  }
  return cores;
}

cpu_set_t spare_cores = {};

}  // namespace

cpu_set_t own_cores() { return cores_of_process(0); }
cpu_set_t cores_of_parent() { return cores_of_process(getppid()); }

cpu_set_t cores_near(const cpu_set_t& cores) {
  cpu_set_t near, all;
  CPU_ZERO(&near);
  std::error_code none;
  for (const auto& node : std::filesystem::directory_iterator("/sys/devices/system/node", none)) {
    std::ifstream file(node.path() / "cpulist");  // which only a node has
    const cpu_set_t here = cores_in(file);
    cpu_set_t both;
    CPU_AND(&both, &here, &cores);
    if (CPU_COUNT(&both) > 0) CPU_OR(&near, &near, &here);
  }
  std::memset(&all, -1, sizeof all);
  return CPU_COUNT(&near) > 0 ? near : all;
}

void set_spare_cores(const cpu_set_t& spare) { spare_cores = spare; }

void use_spare_cores() {
  cpu_set_t cores = own_cores();
  if (CPU_COUNT(&spare_cores) == 0 || CPU_COUNT(&cores) == 0) return;
  CPU_OR(&cores, &cores, &spare_cores);
  sched_setaffinity(0, sizeof cores, &cores);  // where it fails, all stays as it was
}

}  // namespace lab
