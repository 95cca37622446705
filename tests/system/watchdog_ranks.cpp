// Ranks that count steps, and one that goes wrong: what watchdog_test.py starts.
//
//   watchdog_ranks WHAT RANK STEPS [LIMIT [REPORT [FLIGHT]]]
//
// WHAT rank RANK does in the middle: nothing kill segv exit0 exit3 throw lastword stop loop apart differ
// jitter. A step is an all-reduce and a millisecond. FLIGHT: a folder for flight records.

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>

#include "lab/comm/agreement.h"
#include "lab/comm/world.h"
#include "lab/core/error.h"
#include "lab/core/flight_record.h"
#include "lab/core/log.h"
#include "lab/core/process.h"
#include "lab/core/watchdog.h"

namespace {

using namespace std::chrono_literals;

struct Groups {
  std::unique_ptr<lab::Communicator> steps, other;  // both of all ranks
};

void go_wrong(const std::string& what, lab::World& world, const Groups& groups) {
  const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
  std::cout << std::fixed << "goes wrong at " << now.count() << std::endl;
  if (what == "kill") raise(SIGKILL);
  if (what == "segv") raise(SIGSEGV);
  if (what == "exit0") _exit(0);
  if (what == "exit3") _exit(3);
  if (what == "throw") throw lab::DataError("label 12 is too large");
  if (what == "stop") raise(SIGSTOP);
  if (what == "lastword") {
    world.heartbeat().last_word("no memory for 12 GiB");
    raise(SIGABRT);
  }
  if (what == "apart") groups.other->barrier();   // where nobody comes
  if (what == "differ") groups.steps->barrier();  // where all others add up
  if (what == "loop")
    for (std::atomic<int> rounds = 0;;) ++rounds;
}

void run(lab::World& world, const Groups& groups, const std::string& what, int culprit, int64_t steps) {
  lab::Communicator& comm = *groups.steps;
  for (int64_t step = 0; step < steps; ++step) {
    world.heartbeat().step(step);
    const bool slow = what == "jitter" && (step * 7 + comm.rank() * 3) % 10 == 0;
    std::this_thread::sleep_for(slow ? 20ms : 1ms);
    if (step == steps / 2 && comm.rank() == culprit) go_wrong(what, world, groups);
    double value = 1;
    comm.all_reduce({&value, 1, lab::DType::f64}, lab::ReduceOp::sum);
  }
}

// One rank speaks for all that know of it, and the others end nothing before it has.
void say(lab::Heartbeat& heartbeat, const lab::Log& log, const std::string& error) {
  if (heartbeat.first_to_speak()) {
    log.error(error);
    heartbeat.has_spoken();
  }
  while (!heartbeat.was_spoken()) std::this_thread::sleep_for(1ms);
}

}  // namespace

int main(int argc, char** argv) {
  lab::start_process();
  std::signal(SIGTERM, [](int) {});  // as a rank that saves when it is asked to end
  std::signal(SIGSEGV, SIG_DFL);
  const std::string what = argc > 1 ? argv[1] : "nothing";
  lab::World world = lab::World::join(&argc, &argv);
  const lab::Log log(world.rank(), world.size());
  lab::WatchdogOptions options;
  if (argc > 4) options.limits = lab::HangLimits::fixed(std::atof(argv[4]));
  lab::Watchdog watchdog(world.heartbeat(), log, options);
  if (argc > 5)
    watchdog.report_to(argv[5], argc > 6 ? lab::text("The last collectives: lab_fr ", argv[6]) : "");
  if (argc > 6)
    world.heartbeat().record_in(std::make_unique<lab::FlightRecord>(
        lab::text(argv[6], "/rank-", world.rank(), ".fr"), world.rank(), world.size()));
  const Groups groups = {world.communicator(lab::Backend::mpi, log),
                         world.communicator(lab::Backend::mpi, log)};
  try {
    run(world, groups, what, argc > 2 ? std::atoi(argv[2]) : 0, argc > 3 ? std::atoll(argv[3]) : 100);
  } catch (const lab::Error& e) {
    say(world.heartbeat(), log, lab::text(e.what(), ": ", where(world.heartbeat().own())));
    world.abort(e.code());
  }
  world.leave();
  return 0;
}
