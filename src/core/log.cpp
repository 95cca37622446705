#include "lab/core/log.h"

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <mutex>
#include <utility>
#include <vector>

#include "core/terminal.h"
#include "lab/core/error.h"

namespace lab {

namespace {
thread_local bool in_sink = false;
constexpr size_t most_early = size_t{1} << 20;
}  // namespace

struct Log::State {
  std::mutex order;  // of lines, taken before the other; not by what a sink says
  std::mutex mutex;
  int rank = 0, size = 1;
  bool quiet = false;
  bool terminal = false;
  std::string job;  // "[name] "
  std::string status;
  std::vector<std::pair<Level, std::string>> early;  // lines written before there was a file
  size_t early_bytes = 0;
  Sink sink;
  std::FILE* file = nullptr;
  State(int rank_, int size_, bool quiet_, const std::string& job_)
      : rank(rank_),
        size(size_),
        quiet(quiet_),
        terminal(!quiet_ && rank_ == 0 && job_.empty() && detail::stderr_is_watched()),
        job(job_.empty() ? "" : text('[', job_, "] ")) {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    if (terminal && !status.empty()) std::fputs("\r\x1b[K", stderr);
    if (file) std::fclose(file);
  }
};

Log::Log() : Log(0, 1) {}
Log::Log(int rank, int size, const std::string& job)
    : state_(std::make_shared<State>(rank, size, false, job)) {}

Log Log::silent() {
  Log log;
  log.state_ = std::make_shared<State>(0, 1, true, "");
  return log;
}

std::string time_stamp() {
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  const auto milliseconds =
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  std::tm local{};
  localtime_r(&seconds, &local);
  std::array<char, 40> buffer{};
  const size_t length = std::strftime(buffer.data(), buffer.size(), "%Y-%m-%d %H:%M:%S", &local);
  std::snprintf(buffer.data() + length, buffer.size() - length, ".%03d", static_cast<int>(milliseconds));
  return buffer.data();
}

void Log::write(Level level, const std::string& message) const {
  State& state = *state_;
  if (state.quiet || (level == Level::info && state.rank != 0)) return;
  const char* mark = level == Level::error ? "error: " : level == Level::warning ? "warning: " : "";
  const std::string who = state.rank == 0 ? "" : text("[rank ", state.rank, " of ", state.size, "] ");
  const std::string time = text(time_stamp(), "  "), said = text(who, mark, message, "\n");
  const std::string line = text(time, state.job, said);
  std::unique_lock order(state.order, std::defer_lock);
  if (!in_sink) order.lock();
  {
    const std::lock_guard lock(state.mutex);
    // One write per line, so that lines of several ranks do not mix.
    const std::string out = state.terminal && !state.status.empty() ? "\r\x1b[K" + line + state.status : line;
    std::fwrite(out.data(), 1, out.size(), stderr);
    std::fflush(stderr);
  }
  keep(level, time + said);
}

const char* Log::name_of(Level level) {
  return level == Level::error ? "error" : level == Level::warning ? "warning" : "info";
}

// To the file and the sink. The order is held.
void Log::keep(Level level, const std::string& line) const {
  State& state = *state_;
  {
    const std::lock_guard lock(state.mutex);
    if (state.file) {
      std::fwrite(line.data(), 1, line.size(), state.file);
      std::fflush(state.file);
    } else if (state.early_bytes < most_early) {
      state.early.emplace_back(level, line);
      state.early_bytes += line.size();
    }
  }
  if (in_sink || !state.sink) return;
  in_sink = true;
  state.sink(name_of(level), line.substr(0, line.find_last_not_of('\n') + 1));
  in_sink = false;
}

void Log::result(const std::string& text) const {
  State& state = *state_;
  if (state.quiet) return;
  const std::lock_guard order(state.order);
  std::string out = state.job + text;
  if (!state.job.empty())  // each line, as a launcher may put others' between them
    for (size_t at = out.find('\n'); at < out.size() - 1; at = out.find('\n', at + 1))
      out.insert(at + 1, state.job);
  std::fwrite(out.data(), 1, out.size(), stdout);
  std::fflush(stdout);
  keep(Level::info, text);
}

void Log::also_to(const std::string& path, Sink sink) const {
  State& state = *state_;
  const std::lock_guard order(state.order);
  std::vector<std::pair<Level, std::string>> early;
  {
    const std::lock_guard lock(state.mutex);
    if (state.file) std::fclose(state.file);
    state.file = std::fopen(path.c_str(), "ae");
    if (!state.file)
      throw IoError("cannot write the log to ", path, ": ", system_error_text(errno),
                    "; check the folder's rights and room");
    early.swap(state.early);
  }
  state.sink = std::move(sink);
  for (const auto& [level, line] : early) keep(level, line);
}

Log::Aside::Aside() : before_(std::exchange(in_sink, true)) {}
Log::Aside::~Aside() { in_sink = before_; }

void Log::end_sink() const {
  const std::lock_guard order(state_->order);
  state_->sink = nullptr;
}

void Log::status(const std::string& line) const {
  State& state = *state_;
  const std::lock_guard lock(state.mutex);
  if (!state.terminal || line == state.status) return;
  state.status = line;
  const std::string out = "\r\x1b[K" + line;
  std::fwrite(out.data(), 1, out.size(), stderr);
  std::fflush(stderr);
}

bool Log::on_terminal() const { return state_->terminal; }

}  // namespace lab
