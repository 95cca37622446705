#include <algorithm>
#include <map>

#include "lab/core/error.h"
#include "lab/core/flight_log.h"
#include "lab/core/text.h"

namespace lab {
namespace {

using Logs = std::vector<const FlightLog*>;

// "rank 2 on node7", "ranks 0, 1 and 3", "12 ranks (0, 1, 2, 3, 4 ... [12])"
std::string named(const Logs& logs) {
  if (logs.size() == 1) return text("rank ", logs.front()->rank, " on ", logs.front()->host);
  std::vector<std::string> numbers;
  for (const FlightLog* log : logs) numbers.push_back(text(log->rank));
  if (numbers.size() > 8) {
    const size_t all = numbers.size();
    numbers.resize(6);
    return text("ranks ", join(numbers), " and ", all - 6, " more");
  }
  const std::string last = numbers.back();
  numbers.pop_back();
  return text("ranks ", join(numbers), " and ", last);
}

const char* has(const Logs& logs) { return logs.size() == 1 ? " has" : " have"; }

bool waits(const FlightLog& log) {
  const FlightEntry* entry = log.find(log.last);
  return log.torn || (entry && entry->ended == 0);
}

std::string call_text(const FlightLog& log, int64_t sequence) {
  const FlightEntry* entry = log.find(sequence);
  return entry ? text_of(*entry) : text("collective ", sequence);
}

// Where a rank is, as far as its record goes.
std::string place(const FlightLog& log) {
  const std::string left = log.leaving == Leaving::in_order ? ", and left in good order" : "";
  if (log.last == 0) return "in no collective since the record was begun" + left;
  const FlightEntry* entry = log.find(log.last);
  if (!entry) return text("about to enter collective ", log.last, left);
  return text(waits(log) ? "in " : "after ", text_of(*entry),
              entry->step < 0 ? ", before the first step, " : text(", in step ", entry->step, ", "),
              name_of(entry->phase), left);
}

FlightFinding finding(Flight flight, const Logs& culprits, std::string line) {
  FlightFinding out{flight, {}, std::move(line)};
  for (const FlightLog* log : culprits) out.culprits.push_back(log->rank);
  return out;
}

template <class Condition>
Logs those(const Logs& logs, const Condition& condition) {
  Logs out;
  std::copy_if(logs.begin(), logs.end(), std::back_inserter(out),
               [&](const FlightLog* log) { return condition(*log); });
  return out;
}

std::optional<FlightFinding> find_aborted(const Logs& logs) {
  const Logs aborted = those(logs, [](const FlightLog& log) { return log.leaving == Leaving::by_abort; });
  if (aborted.empty()) return std::nullopt;
  const FlightLog& first = *aborted.front();
  return finding(Flight::aborted, aborted,
                 text(named(aborted), " ended the job with exit code ", first.exit_code, ", ", place(first)));
}

// What must be the same on all ranks; an exchange has another size on each.
std::string kind_of(const FlightEntry& entry) {
  const bool sized = entry.kind != Collective::exchange;
  return text(name_of(entry.kind), '/', name_of(entry.type), '/', sized ? entry.bytes : 0, '/',
              entry.purpose);
}

// The first collective that ranks took for different ones. The others are the larger group, or that of the
// lowest rank.
std::optional<FlightFinding> find_apart(const Logs& logs) {
  int64_t first = INT64_MAX, last = 0;
  for (const FlightLog* log : logs) {
    if (log->entries.empty()) continue;
    first = std::min(first, log->entries.front().sequence);
    last = std::max(last, log->entries.back().sequence);
  }
  for (int64_t sequence = first; sequence <= last; ++sequence) {
    std::map<std::string, Logs> groups;
    for (const FlightLog* log : logs)
      if (const FlightEntry* entry = log->find(sequence)) groups[kind_of(*entry)].push_back(log);
    if (groups.size() < 2) continue;
    const auto& most = std::ranges::max_element(groups, {}, [](const auto& group) {
                         return std::pair(group.second.size(), -group.second.front()->rank);
                       })->second;
    const Logs others = those(logs, [&](const FlightLog& log) {
      return log.find(sequence) && std::ranges::find(most, &log) == most.end();
    });
    return finding(Flight::apart, others,
                   text(named(others), " entered ", call_text(*others.front(), sequence), ", where ",
                        named(most), " entered ", call_text(*most.front(), sequence)));
  }
  return std::nullopt;
}

std::optional<FlightFinding> find_behind(const Logs& logs) {
  const auto count = [](const FlightLog* log) { return log->last; };
  const int64_t least = count(*std::ranges::min_element(logs, {}, count));
  const Logs behind = those(logs, [&](const FlightLog& log) { return log.last == least; });
  const Logs ahead = those(logs, [&](const FlightLog& log) { return log.last > least; });
  if (ahead.empty()) return std::nullopt;
  const FlightLog& culprit = *behind.front();
  if (waits(culprit))
    return finding(Flight::behind, behind,
                   text(named(behind), has(behind), " not left ", call_text(culprit, least), ", as ",
                        named(ahead), has(ahead), "; ", place(culprit)));
  const bool wait =
      std::ranges::all_of(ahead, [&](const FlightLog* log) { return log->last == least + 1 && waits(*log); });
  return finding(Flight::behind, behind,
                 text(named(behind), has(behind), " not entered ", call_text(*ahead.front(), least + 1), ", ",
                      wait ? "in which " : "as ", named(ahead),
                      wait ? (ahead.size() == 1 ? " waits" : " wait") : has(ahead), "; rank ", culprit.rank,
                      " is ", place(culprit)));
}

// All have entered the same collectives.
FlightFinding find_among_equals(const Logs& logs) {
  const FlightLog& first = *logs.front();
  const Logs inside = those(logs, waits);
  const Logs out = those(logs, [](const FlightLog& log) { return !waits(log); });
  const Logs stayed = those(logs, [](const FlightLog& log) { return log.leaving == Leaving::running; });
  if (stayed.empty())
    return finding(Flight::in_order, {},
                   text("all ranks left in good order, after ", first.last, " collectives"));
  if (stayed.size() < logs.size())
    return finding(Flight::behind, stayed,
                   text(named(stayed), has(stayed), " not left in good order, as the others have; rank ",
                        stayed.front()->rank, " is ", place(*stayed.front())));
  if (logs.size() == 1) return finding(Flight::none, {}, text(named(logs), " is ", place(first)));
  if (inside.size() == logs.size())
    return finding(Flight::together, {}, text("all ranks are ", place(first), ": none is behind"));
  if (!inside.empty())
    return finding(Flight::behind, inside,
                   text(named(inside), has(inside), " not left ", call_text(*inside.front(), first.last),
                        ", as ", named(out), has(out)));
  return finding(Flight::none, {},
                 text("no rank waits: all are ", place(first), ", and had entered no other"));
}

}  // namespace

const char* name_of(Flight finding) {
  constexpr std::array names = {"none", "aborted", "lost", "apart", "behind", "together", "in_order"};
  return names.at(static_cast<size_t>(finding));
}

std::string text_of(const FlightEntry& entry) {
  std::vector<std::string> details;
  if (entry.kind != Collective::barrier)
    details = {std::string(name_of(entry.type)), byte_size(static_cast<uint64_t>(entry.bytes))};
  if (!entry.purpose.empty()) details.push_back(entry.purpose);
  return text(name_of(entry.kind), ' ', entry.sequence,
              details.empty() ? "" : text(" (", join(details), ")"));
}

namespace {

FlightFinding find_by_places(const Logs& logs) {
  if (auto found = find_apart(logs)) return *found;
  if (auto found = find_behind(logs)) return *found;
  return find_among_equals(logs);
}

// What a watchdog saw counts for more than places: in time for it to act, any rank may have been behind.
std::optional<FlightFinding> find_lost(const Logs& logs) {
  const Logs witnesses = those(logs, [](const FlightLog& log) { return log.lost.has_value(); });
  if (witnesses.empty()) return std::nullopt;
  const int lost = *witnesses.front()->lost;
  return FlightFinding{
      Flight::lost,
      {lost},
      text("rank ", lost, " died or hung, as ", named(witnesses), " saw; ", find_by_places(logs).line)};
}

}  // namespace

FlightFinding find_culprit(std::span<const FlightLog> all) {
  Logs logs;
  for (const FlightLog& log : all) logs.push_back(&log);
  std::ranges::sort(logs, {}, [](const FlightLog* log) { return log->rank; });
  if (logs.empty()) throw Bug("a culprit is looked for in no record");
  if (auto found = find_aborted(logs)) return *found;
  if (auto found = find_lost(logs)) return *found;
  return find_by_places(logs);
}

}  // namespace lab
