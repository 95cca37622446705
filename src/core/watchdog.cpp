#include "lab/core/watchdog.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <functional>
#include <future>
#include <map>
#include <mutex>
#include <system_error>
#include <vector>

#include "lab/core/error.h"
#include "lab/core/other_process.h"
#include "lab/core/process.h"
#include "lab/core/text.h"

namespace lab {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr int code_after_hang = 128 + SIGKILL;
constexpr milliseconds without_descriptors{100};  // between two looks at processes that cannot be waited for

// Runs `work` elsewhere and waits for it no longer than that: a disk that hangs may be the reason why we are
// here.
bool within(milliseconds most, std::function<void()> work) {
  auto done = std::make_shared<std::promise<void>>();
  auto finished = done->get_future();
  const auto run = [done, work = std::move(work)] {
    work();
    done->set_value();
  };
  try {
    std::thread(run).detach();
  } catch (const std::system_error&) {  // no more threads to be had
    run();
  }
  return finished.wait_for(most) == std::future_status::ready;
}

// Of our main thread.
char own_state() {
  const auto stat = process_stat(getpid());
  return stat ? stat->state : '?';
}

// Ranks of several nodes may append to the file at the same time, over a network.
void append(const std::string& path, const std::string& words) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd < 0) throw IoError("cannot write ", path, ": ", system_error_text(errno));
  struct flock whole {};
  whole.l_type = F_WRLCK;
  for (int i = 0; i < 50 && fcntl(fd, F_SETLK, &whole) != 0 && (errno == EAGAIN || errno == EACCES); ++i)
    std::this_thread::sleep_for(milliseconds(10));
  const ssize_t wrote = write(fd, words.data(), words.size());
  const int problem = errno;
  close(fd);
  if (wrote != static_cast<ssize_t>(words.size()))
    throw IoError("cannot write ", path, ": ", system_error_text(wrote < 0 ? problem : ENOSPC));
}

}  // namespace

struct Watchdog::Watch {
  Watch(Heartbeat& heartbeat_, Log log_, WatchdogOptions options_)
      : heartbeat(heartbeat_), log(std::move(log_)), options(std::move(options_)), limits(options.limits) {}
  ~Watch() {
    if (wake_fd >= 0) close(wake_fd);
  }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  Heartbeat& heartbeat;
  const Log log;
  const WatchdogOptions options;
  const std::string host = host_name();
  const int wake_fd = eventfd(0, EFD_CLOEXEC);
  std::atomic<bool> stop = false;

  std::mutex mutex;
  HangLimits limits;         // under the mutex
  std::string report, more;  // under the mutex
  std::mutex act_mutex;      // held while it acts
  std::function<void(const std::string&)> last_act;

  // The rest belongs to the thread.
  // Since when each slot has stood still, by a clock that only runs while this thread does.
  struct Sight {
    int64_t moved_at = 0;
    double since = 0;
  };
  std::map<int, WatchedProcess> others;  // by slot
  std::map<int, Sight> sights;
  double awake = 0;  // seconds on that clock
  Clock::time_point looked = Clock::now();

  void run();
  void wait_for_news();
  milliseconds tick() const;
  std::vector<int> died();
  std::vector<Place> look();
  bool say(const std::vector<int>& unfit, const std::function<void()>& words);
  [[noreturn]] void end_after_death(const std::vector<int>& dead);
  [[noreturn]] void end_after_hang(const std::vector<Place>& places, const Verdict& verdict);
  std::string written_report(const std::vector<Place>& places, const std::string& line);
  [[noreturn]] void end(int code, const std::string& why);
};

void Watchdog::Watch::run() {
  for (int slot = 0; slot < heartbeat.slots(); ++slot) {
    const Beat beat = heartbeat.beat(slot);
    if (slot != heartbeat.slot() && beat.rank >= 0) others.emplace(slot, WatchedProcess(beat.pid, beat.born));
  }
  for (; !stop; wait_for_news()) {
    if (const auto dead = died(); !dead.empty()) end_after_death(dead);
    const auto places = look();
    const HangLimits now = [this] {
      const std::lock_guard lock(mutex);
      return limits;
    }();
    const auto verdict = judge(places, heartbeat.sees_whole_job(), now, heartbeat.median_step());
    if (verdict) end_after_hang(places, *verdict);
  }
}

milliseconds Watchdog::Watch::tick() const {
  for (const auto& [slot, process] : others)
    if (process.visible() && process.fd() < 0) return std::min(options.tick, without_descriptors);
  return options.tick;
}

// Until a process is gone, the time is up, or the owner wants an end.
void Watchdog::Watch::wait_for_news() {
  std::vector<pollfd> fds = {{wake_fd, POLLIN, 0}};
  for (const auto& [slot, process] : others)
    if (process.fd() >= 0) fds.push_back({process.fd(), POLLIN, 0});
  poll(fds.data(), fds.size(), static_cast<int>(tick().count()));
}

// The slots of those that are gone without having left. Those that left are forgotten.
std::vector<int> Watchdog::Watch::died() {
  std::vector<int> dead;
  std::erase_if(others, [&](const auto& other) {
    if (!other.second.gone()) return false;
    const bool left = heartbeat.beat(other.first).leaving == Leaving::in_order;
    if (!left) dead.push_back(other.first);
    return left;
  });
  return dead;
}

std::vector<Place> Watchdog::Watch::look() {
  const auto time = Clock::now();
  const std::chrono::duration<double> passed = time - looked;
  looked = time;
  const int job = heartbeat.own().job;
  awake += std::min(passed.count(), 2 * std::chrono::duration<double>(tick()).count());
  std::vector<Place> places;
  for (int slot = 0; slot < heartbeat.slots(); ++slot) {
    const auto other = others.find(slot);
    if (slot != heartbeat.slot() && other == others.end()) continue;
    Place place{heartbeat.beat(slot), 0, '?'};
    if (place.beat.job != job) continue;  // that job has its own watchdogs
    Sight& sight = sights.try_emplace(slot, Sight{place.beat.moved_at, awake}).first->second;
    if (sight.moved_at != place.beat.moved_at) sight = {place.beat.moved_at, awake};
    place.still = awake - sight.since;
    if (place.still > 0) place.process = other == others.end() ? own_state() : other->second.state();
    places.push_back(std::move(place));
  }
  return places;
}

// Says it, if no other rank of the node does. Lower ranks go first, those that may not be able to speak last.
bool Watchdog::Watch::say(const std::vector<int>& unfit, const std::function<void()>& words) {
  const auto is_unfit = [&](int slot) { return std::ranges::find(unfit, slot) != unfit.end(); };
  int before = is_unfit(heartbeat.slot()) ? heartbeat.slots() : 0;
  for (const auto& [slot, process] : others)
    if (slot < heartbeat.slot() && is_unfit(slot) == is_unfit(heartbeat.slot())) ++before;
  std::this_thread::sleep_for(before * options.turn);
  if (heartbeat.first_to_speak()) {
    words();
    heartbeat.has_spoken();
    return true;
  }
  for (const auto start = Clock::now(); !heartbeat.was_spoken() && Clock::now() - start < 2 * options.io;)
    std::this_thread::sleep_for(milliseconds(10));
  return false;
}

void Watchdog::Watch::end_after_death(const std::vector<int>& dead) {
  const Beat first = heartbeat.beat(dead.front());
  const auto how = others.at(dead.front()).wait_status();
  if (first.job == heartbeat.own().job) heartbeat.lost(first.rank);
  std::string line = text(who(first), " on ", host, ' ', ending_of(first, how), ": ", where(first));
  for (size_t i = 1; i < dead.size(); ++i) line += text("; ", who(heartbeat.beat(dead[i])), " is gone too");
  say(dead,
      [&] { within(options.io, [this, line] { log.error(line, ". The job is ended; ", options.next); }); });
  end(exit_code_after(first, how), line);
}

void Watchdog::Watch::end_after_hang(const std::vector<Place>& places, const Verdict& verdict) {
  std::vector<int> unfit;
  for (int slot = 0; slot < heartbeat.slots(); ++slot)
    for (const size_t culprit : verdict.culprits)
      if (who(places[culprit].beat) == who(heartbeat.beat(slot))) unfit.push_back(slot);
  const std::string line = hang_line(places, verdict, host);
  if (!verdict.culprits.empty()) heartbeat.lost(places[verdict.culprits.front()].beat.rank);
  say(unfit, [&] {
    const std::string limit =
        text(" (the limit is ", shortest(verdict.limit), " s; ", options.limit_name, ")");
    const std::string places_are = written_report(places, line + limit);
    within(options.io,
           [=, this] { log.error(line, limit, ". ", places_are, ". The job is ended; ", options.next); });
    for (const int slot : unfit)
      if (const auto other = others.find(slot); other != others.end()) other->second.kill();
  });
  end(code_after_hang, line);
}

// Writes the places of all ranks, and says where they are.
std::string Watchdog::Watch::written_report(const std::vector<Place>& places, const std::string& line) {
  const auto [path, last_line] = [this] {
    const std::lock_guard lock(mutex);
    return std::pair(report, more.empty() ? "" : more + "\n");
  }();
  const std::string table = table_of(places, host) + last_line;
  if (path.empty()) return "All ranks' places:\n" + table;
  const auto problem = std::make_shared<std::string>();
  const bool done = within(options.io, [=, words = text(time_stamp(), "  ", line, "\n", table, "\n")] {
    try {
      append(path, words);
    } catch (const std::exception& e) {
      *problem = e.what();
    }
  });
  if (done && problem->empty()) return "All ranks' places are in " + path;
  return text("All ranks' places (", done ? *problem : path + " cannot be written in time", "):\n", table);
}

// The launcher usually ends us before we do, with the exit code of the rank that failed first.
void Watchdog::Watch::end(int code, const std::string& why) {
  const auto until = Clock::now() + options.grace;
  within(options.grace, [this, why] {
    const std::lock_guard lock(act_mutex);
    if (last_act) last_act(why);
  });
  std::this_thread::sleep_until(until);
  _exit(code);
}

Watchdog::Watchdog(Heartbeat& heartbeat, Log log, WatchdogOptions options)
    : watch_(std::make_unique<Watch>(heartbeat, std::move(log), std::move(options))) {
  // Signals are for the threads that know what to do with them.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    thread_ = std::thread([watch = watch_.get()] {
      try {
        watch->run();
      } catch (const std::exception& e) {  // short of memory, or of descriptors
        watch->log.warn("the watchdog has stopped: ", e.what());
      }
    });
  } catch (const std::system_error& e) {
    watch_->log.warn("no watchdog: ", e.what());
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Watchdog::~Watchdog() {
  watch_->stop = true;
  eventfd_write(watch_->wake_fd, 1);
  if (thread_.joinable()) thread_.join();
}

void Watchdog::limit(const HangLimits& limits) {
  const std::lock_guard lock(watch_->mutex);
  watch_->limits = limits;
}

void Watchdog::before_end(std::function<void(const std::string&)> act) {
  const std::lock_guard lock(watch_->act_mutex);
  watch_->last_act = std::move(act);
}

void Watchdog::report_to(const std::string& path, const std::string& more) {
  const std::lock_guard lock(watch_->mutex);
  watch_->report = path;
  watch_->more = more;
}

}  // namespace lab
