#include "lab/launch/supervisor.h"

#include <sys/stat.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <map>

#include "lab/core/error.h"
#include "lab/core/other_process.h"
#include "lab/core/process.h"
#include "lab/launch/processes.h"
#include "lab/launch/verdict.h"
#include "launch/launcher.h"
#include "launch/sweeper.h"

namespace lab {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds look_again{50};              // whether the ranks can take a signal yet
constexpr milliseconds longest_start{10'000};       // after which they are not waited for
constexpr milliseconds grace_after_launcher{2000};  // for ranks whose launcher is gone
constexpr milliseconds grace_of_second_signal{1000};

// The file that rank 0 reports in; replaced as a whole, so another file means another report.
class ProgressFile {
 public:
  explicit ProgressFile(std::string path) : path_(std::move(path)) {}
  const std::string& path() const { return path_; }
  std::optional<Progress> read() const {
    if (identity() == Identity{}) return std::nullopt;
    try {
      return parse_progress(read_file(path_, "progress report", 1 << 16));
    } catch (const Error&) {
      return std::nullopt;
    }
  }
  struct Identity {
    ino_t inode = 0;
    time_t seconds = 0;
    int64_t nanoseconds = 0;
    bool operator==(const Identity&) const = default;
  };
  Identity identity() const {
    struct stat info {};
    if (stat(path_.c_str(), &info) != 0) return {};
    return {info.st_ino, info.st_mtim.tv_sec, info.st_mtim.tv_nsec};
  }

 private:
  std::string path_;
};

// One start of the ranks, from its launch to the last process.
class Start {
 public:
  Start(const Job& job, const std::string& folder, const std::vector<std::string>& words,
        const Signals& signals, const Log& log)
      : job_(job),
        log_(log),
        signals_(signals),
        folder_(folder),
        progress_(folder + "/progress"),
        command_(command_for(words)),
        launcher_(command_, job.environment) {}

  // The end of it; second_signal() is not 0 when that was by force.
  StartEnd run() {
    while (!launcher_.ended()) {
      const bool held_back = stop_ != 0 && !passed_on_;
      const Received received = signals_.wait(held_back ? std::optional(look_again) : std::nullopt);
      if (received.signal != 0 && received.signal != SIGCHLD) take(received);
      if (second_ != 0) break;
      if (stop_ != 0 && !passed_on_) pass_on();
    }
    if (second_ != 0) launcher_.signal_group(SIGTERM);
    const int killed =
        wait_until_gone(job_.run_id, second_ != 0 ? grace_of_second_signal : grace_after_launcher);
    if (killed > 0 && second_ == 0)
      log_.warn("lab_run: ", killed, killed == 1 ? " process was" : " processes were",
                " still there after the launcher had ended; killed");
    StartEnd end{launcher_.ended().value_or(0), stop_, false, false};
    end.saved_since_stop = stop_ != 0 && progress_.identity() != at_stop_;
    return end;
  }
  int second_signal() const { return second_; }
  std::optional<Progress> progress() const { return progress_.read(); }

 private:
  LaunchCommand command_for(const std::vector<std::string>& words) const {
    LaunchRequest request = job_.request;
    request.for_program = words;
    LaunchCommand out = launch_command(request, job_.around, job_.program, folder_);
    out.environment.emplace_back(run_id_variable, job_.run_id);
    out.environment.emplace_back(progress_variable, progress_.path());
    out.environment.emplace_back(own_run_variable, words != job_.request.for_program ? "1" : "0");
    return out;
  }
  void take(const Received& received) {
    const int signal = received.signal;
    if (stop_ != 0) {
      second_ = signal;
      log_.warn("lab_run: ", strsignal(signal), " (", signal,
                "), the second signal: ending everything at once");
      return;
    }
    stop_ = signal;
    at_stop_ = progress_.identity();
    // The ranks would take another signal as the second one.
    passed_on_ = signal == SIGTERM && slurm_ends_the_job(received.sender);
    log_.info("lab_run: ", strsignal(signal), " (", signal, "): the ranks finish their step and save; ",
              "a second signal ends them at once");
  }
  // Slurm that ends a job (scancel, its time, another job's turn) tells every process of it, the ranks too; a
  // signal to the batch script alone (scancel --batch) leaves the job running.
  bool slurm_ends_the_job(pid_t sender) const {
    if (!read_proc(sender, "comm").starts_with("slurmstepd") || job_.around.squeue.empty()) return false;
    const auto asked = run_program({job_.around.squeue, "-h", "-j", job_.around.slurm_job, "-o", "%T"});
    return asked.output != "RUNNING\n";
  }
  void pass_on() {
    const int at_least = command_.on_this_machine ? command_.ranks : 1;
    if (Clock::now() - started_ < longest_start && !ready_for_usr1(processes_of(job_.run_id), at_least))
      return;
    launcher_.signal(SIGUSR1);
    passed_on_ = true;
  }

  const Job& job_;
  const Log& log_;
  const Signals& signals_;
  std::string folder_;
  ProgressFile progress_;
  LaunchCommand command_;
  const Clock::time_point started_ = Clock::now();
  Launcher launcher_;
  int stop_ = 0, second_ = 0;
  bool passed_on_ = false;
  ProgressFile::Identity at_stop_;
};

void clear_leftovers(const Places& places, const Log& log) {
  const std::vector<std::string> removed = remove_leftovers(places);
  if (!removed.empty())
    log.info("lab_run: removed what killed launchers had left: ", removed.front(),
             removed.size() == 1 ? "" : text(" and ", removed.size() - 1, " more"));
}

std::string place_of(const std::optional<Progress>& newest) {
  return newest ? text("step ", newest->step, " of ", newest->folder)
                : "the beginning: no checkpoint was reported";
}

void say_given_up(int code, const std::optional<Progress>& newest, const Log& log) {
  log.error("lab_run: giving up (93): ", most_fruitless_starts,
            " starts in a row brought no new checkpoint; the last one: ", reason_for(code),
            ". Look at the lines above", newest ? text(" and at ", newest->folder, "/log.txt") : "",
            ", put right what is wrong, and start again with --resume");
}

// One start, in a folder of its own that is gone afterwards.
struct Outcome {
  StartEnd end;
  int second_signal = 0;
  std::optional<Progress> progress;
};
Outcome start_once(const Job& job, const std::string& folder_path, const std::vector<std::string>& words,
                   const Signals& signals, const Log& log) {
  const JobFolder folder(folder_path);
  Start start(job, folder.path(), words, signals, log);
  Outcome out;
  out.end = start.run();
  out.second_signal = start.second_signal();
  out.progress = start.progress();
  return out;
}

}  // namespace

int supervise(const Job& job, const Log& log) {
  const Signals signals;  // from here on none is lost: those that come too early wait for the ranks
  const std::string folder = job_folder_path(job.places);
  // Whatever is wrong with the request is said before anything is touched.
  const bool on_this_machine = launch_command(job.request, job.around, job.program, folder).on_this_machine;
  clear_leftovers(job.places, log);
  Sweeper sweeper(job.run_id, folder);
  Tries tries{job.request.restarts, 0, 0};
  std::optional<Progress> newest;
  std::map<std::string, int64_t> steps;  // of the newest checkpoint of each run: there may be several jobs
  std::vector<std::string> words = job.request.for_program;
  for (;;) {
    Outcome outcome = start_once(job, folder, words, signals, log);
    if (!on_this_machine) clear_leftovers(job.places, log);
    if (outcome.second_signal != 0) {
      sweeper.done();
      return 128 + outcome.second_signal;
    }
    StartEnd& end = outcome.end;
    if (outcome.progress) {
      newest = outcome.progress;
      int64_t& known = steps[newest->folder];
      end.progressed = newest->step > known;
      known = std::max(known, newest->step);
    }
    tries.fruitless = end.progressed ? 0 : tries.fruitless + 1;
    const Verdict verdict = judge(end, tries);
    if (verdict.action == Verdict::Action::restart) {
      words = resuming(job.request.for_program);
      ++tries.restarts;
      log.warn("lab_run: ", reason_for(end.code), "; restart ", tries.restarts,
               tries.most_restarts ? text(" of ", *tries.most_restarts) : "", " from ", place_of(newest));
      continue;
    }
    if (verdict.action == Verdict::Action::give_up) say_given_up(end.code, newest, log);
    sweeper.done();
    return verdict.code;
  }
}

}  // namespace lab
