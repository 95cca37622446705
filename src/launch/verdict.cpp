#include "lab/launch/verdict.h"

#include <charconv>
#include <csignal>
#include <cstring>

#include "lab/core/error.h"

namespace lab {
namespace {

// mpirun's own code when a rank was killed, as far as it does not know better.
constexpr int launcher_failed = 1;

bool is(int code, ExitCode named) { return code == static_cast<int>(named); }

bool crashed(int code) {
  return code == launcher_failed || is(code, ExitCode::bug) || is(code, ExitCode::io) ||
         (code >= 128 && !is(code, ExitCode::interrupted));
}

// The ranks' code is passed on, but an end by 75 is called what the user asked for. Ranks that are done with
// saving may be swept away by a launcher that sees the first one leave: what counts is the checkpoint.
int code_after_stop(const StartEnd& end) {
  const bool saved = is(end.code, ExitCode::try_again) || (end.saved_since_stop && crashed(end.code));
  if (!saved) return end.code;
  return static_cast<int>(end.stop_signal == SIGINT ? ExitCode::interrupted : ExitCode::try_again);
}

}  // namespace

std::optional<Progress> parse_progress(const std::string& file_text) {
  const size_t first_end = file_text.find('\n');
  if (first_end == std::string::npos || file_text.front() != '/') return std::nullopt;
  Progress out{file_text.substr(0, first_end), 0};
  const char* end = file_text.data() + file_text.size();
  const auto [stop, problem] = std::from_chars(file_text.data() + first_end + 1, end, out.step);
  if (problem != std::errc() || (stop != end && *stop != '\n') || out.step < 0) return std::nullopt;
  return out;
}

Verdict judge(const StartEnd& end, const Tries& tries) {
  using Action = Verdict::Action;
  if (end.stop_signal != 0) return {Action::finish, code_after_stop(end)};
  if (!crashed(end.code) && !is(end.code, ExitCode::try_again)) return {Action::finish, end.code};
  if (tries.fruitless >= most_fruitless_starts) return {Action::give_up, static_cast<int>(ExitCode::give_up)};
  if (tries.most_restarts && tries.restarts >= *tries.most_restarts) return {Action::finish, end.code};
  return {Action::restart, end.code};
}

std::string reason_for(int code) {
  if (is(code, ExitCode::try_again)) return "the ranks saved and stopped early (75)";
  if (is(code, ExitCode::bug)) return "the ranks met a bug (70)";
  if (is(code, ExitCode::io)) return "reading or writing failed (74)";
  if (code == launcher_failed) return "a rank or the launcher failed (1)";
  if (code > 128 && code <= 128 + SIGRTMAX)
    return text("a rank or the launcher was ended by signal ", code - 128, " (", strsignal(code - 128), ")");
  return text("the ranks ended with code ", code);
}

}  // namespace lab
