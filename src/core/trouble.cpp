#include "lab/core/trouble.h"

#include <string.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "lab/core/error.h"
#include "lab/core/text.h"

namespace lab {
namespace {

bool stopped(const Place& place) { return place.process == 'T'; }
bool waits(const Place& place) { return place.beat.inside && !stopped(place); }

std::string seconds_text(double seconds) {
  std::array<char, 32> buffer{};
  std::snprintf(buffer.data(), buffer.size(), seconds < 10 ? "%.1f s" : "%.0f s", seconds);
  return buffer.data();
}

const char* process_text(char state) {
  switch (state) {
    case 'R':
      return "computing";
    case 'S':
      return "sleeping";
    case 'D':
      return "in the kernel";  // most often waiting for a disk or a file server
    case 'T':
      return "stopped";
    case 't':
      return "debugged";
    case 'Z':
    case 'X':
      return "ended";
    default:
      return "unknown";
  }
}

// The message on one line.
std::string flat(std::string word) {
  std::replace(word.begin(), word.end(), '\n', ' ');
  return word;
}

}  // namespace

double limit_of(Phase phase, const HangLimits& limits, double median_step) {
  if (phase != Phase::training || median_step <= 0) return std::max(limits.least, limits.other);
  return std::max(limits.least, limits.steps * median_step);
}

namespace {

// All ranks that can be seen wait: for each other, or for one of another node.
std::optional<Verdict> judge_waiting(std::span<const Place> places, bool whole_job, const HangLimits& limits,
                                     double median_step) {
  Verdict verdict{whole_job ? Hang::together : Hang::elsewhere, {}, 0};
  for (const Place& place : places) {
    const double limit = limit_of(place.beat.phase, limits, median_step);
    const double longest = std::max(limit, limits.other);
    verdict.limit = std::max(verdict.limit, whole_job ? limit : longest);
  }
  for (const Place& place : places)
    if (place.still <= verdict.limit) return std::nullopt;
  if (!whole_job) return verdict;
  const auto number = [](const Place& place) { return place.beat.collective; };
  const auto latest = std::ranges::max(places, {}, number).beat;
  for (size_t i = 0; i < places.size(); ++i)
    if (number(places[i]) < latest.collective) verdict.culprits.push_back(i);
  if (!verdict.culprits.empty()) {
    verdict.hang = Hang::behind;
  } else if (std::ranges::any_of(places, [&](const Place& place) {
               const Beat& beat = place.beat;  // an exchange has another size on each rank
               return beat.kind != latest.kind ||
                      (beat.bytes != latest.bytes && beat.kind != Collective::exchange);
             })) {
    verdict.hang = Hang::apart;
  }
  return verdict;
}

}  // namespace

std::optional<Verdict> judge(std::span<const Place> places, bool whole_job, const HangLimits& limits,
                             double median_step) {
  if (limits.least <= 0 || places.empty()) return std::nullopt;
  if (std::ranges::any_of(places, [](const Place& place) { return place.process == 't'; }))
    return std::nullopt;  // somebody looks at it with a debugger
  if (std::ranges::all_of(places, waits)) return judge_waiting(places, whole_job, limits, median_step);
  Verdict verdict;
  for (size_t i = 0; i < places.size(); ++i) {
    const double limit = limit_of(places[i].beat.phase, limits, median_step);
    if (waits(places[i]) || places[i].still <= limit) continue;
    verdict.culprits.push_back(i);
    verdict.limit = std::max(verdict.limit, limit);
  }
  if (verdict.culprits.empty()) return std::nullopt;
  return verdict;
}

std::string ending_of(const Beat& beat, std::optional<int> wait_status) {
  std::string out = "ended without a word; the launcher's message may say how";
  if (wait_status && WIFSIGNALED(*wait_status)) {
    const int signal = WTERMSIG(*wait_status);
    const char* name = sigabbrev_np(signal);
    out = text("was killed by signal ", signal, name ? text(" (SIG", name, ")") : "");
  } else if (wait_status) {
    out = text("ended with exit code ", WEXITSTATUS(*wait_status), " before the job was done");
  }
  return beat.last_word.empty() ? out : text(out, "; its last word: ", flat(beat.last_word));
}

int exit_code_after(const Beat& beat, std::optional<int> wait_status) {
  if (beat.leaving == Leaving::by_abort) return beat.exit_code;
  if (wait_status && WIFSIGNALED(*wait_status)) return 128 + WTERMSIG(*wait_status);
  return static_cast<int>(ExitCode::bug);
}

namespace {

std::string culprit_text(const Place& place, Hang hang, const std::string& host) {
  const char* what = stopped(place)         ? "is stopped by a signal"
                     : hang == Hang::behind ? "is behind the other ranks"
                                            : "hangs";
  return text(who(place.beat), " on ", host, ' ', what, ", without a move for ", seconds_text(place.still),
              ": ", where(place.beat));
}

}  // namespace

std::string hang_line(std::span<const Place> places, const Verdict& verdict, const std::string& host) {
  constexpr size_t most = 3;
  std::vector<std::string> parts;
  for (const size_t i : verdict.culprits)
    if (parts.size() < most) parts.push_back(culprit_text(places[i], verdict.hang, host));
  if (verdict.culprits.size() > most)
    parts.push_back(text("and ", verdict.culprits.size() - most, " more ranks"));
  if (!parts.empty()) return join(parts, "; ");
  const Place& first = places.front();
  const char* what = verdict.hang == Hang::elsewhere ? "wait for a rank on another node"
                     : verdict.hang == Hang::apart   ? "wait for each other, in collectives that differ"
                                                     : "wait in the same collective, which does not end";
  return text("all ranks on ", host, ' ', what, ", without a move for ", seconds_text(first.still), ": rank ",
              first.beat.rank, ' ', where(first.beat));
}

std::string table_of(std::span<const Place> places, const std::string& host) {
  std::array<char, 512> row{};
  const auto add = [&row](std::string& out, auto... values) {
    std::snprintf(row.data(), row.size(), "%6s  %-16s %8s  %-13s  %-10s %10s  %10s  %s\n", values...);
    out += row.data();
  };
  std::string out;
  add(out, "rank", "host", "pid", "process", "phase", "step", "still for", "collective");
  for (const Place& place : places) {
    const Beat& beat = place.beat;
    std::string collective = "none yet";
    if (beat.kind != Collective::none)
      collective = text(beat.inside ? "in " : "after ", name_of(beat.kind), ' ', beat.collective, ", ",
                        byte_size(static_cast<uint64_t>(beat.bytes)));
    if (!beat.last_word.empty()) collective += "; last word: " + flat(beat.last_word);
    add(out, text(beat.rank).c_str(), host.c_str(), text(beat.pid).c_str(), process_text(place.process),
        name_of(beat.phase), beat.step < 0 ? "-" : text(beat.step).c_str(), seconds_text(place.still).c_str(),
        collective.c_str());
  }
  return out;
}

}  // namespace lab
