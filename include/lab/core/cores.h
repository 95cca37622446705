#pragma once
// The cores of this machine that a process may run on.

#include <sched.h>

namespace lab {

// Those of the calling thread. None where the kernel does not tell, as with more than CPU_SETSIZE of them.
cpu_set_t own_cores();
// Those of the process that started this one: what a launcher may use itself before it binds what it starts.
cpu_set_t cores_of_parent();

// These, and all others of the NUMA nodes that they belong to, whose memory is as near. All where the kernel
// does not tell.
cpu_set_t cores_near(const cpu_set_t& cores);

// A launcher that binds a rank to one core binds its every thread to it: those that read, write and wait
// would take turns with the one that computes, beside idle cores. These are idle. Process-wide, to be called
// before there are such threads.
void set_spare_cores(const cpu_set_t& spare);
// The calling thread may run on the spare cores too from now on. Without any, nothing changes.
void use_spare_cores();

}  // namespace lab
