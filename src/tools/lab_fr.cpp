// lab_fr: shows the last collectives of each rank of a run that was killed or hangs, and says who is to
// blame.
#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>
#include <iostream>
#include <nlohmann/json.hpp>

#include "lab/core/error.h"
#include "lab/core/flight_log.h"
#include "lab/core/formatted.h"
#include "lab/core/program.h"
#include "lab/core/version.h"

namespace {

using namespace lab;
using Json = nlohmann::ordered_json;

struct Request {
  std::vector<std::string> paths;
  int64_t last = 5;
  bool json = false, help = false, version = false;
};

struct Option {
  std::string name, value, help;  // value: how its value is called; empty: it takes none
  void (*take)(Request&, const std::string& value);
};

void take_last(Request& request, const std::string& value) {
  const char* end = value.data() + value.size();
  const auto [stop, problem] = std::from_chars(value.data(), end, request.last);
  if (problem != std::errc() || stop != end || request.last < 0)
    throw UsageError("--last ", quoted(value), " is not a whole number from 0 up");
}
void take_json(Request& request, const std::string&) { request.json = true; }
void take_help(Request& request, const std::string&) { request.help = true; }
void take_version(Request& request, const std::string&) { request.version = true; }

const std::vector<Option>& options() {
  static const std::vector<Option> all = {
      {"--last", "N", "how many collectives of each rank to show, the newest last (5)", take_last},
      {"--json", "", "for programs: the same, as one JSON object", take_json},
      {"--version", "", "print the version, and exit", take_version},
      {"--help", "", "print this, and exit", take_help},
  };
  return all;
}

std::string help_text() {
  std::string out =
      "lab_fr RUN_FOLDER | FILE.fr ... [options]\n"
      "    shows in which collective each rank of a run is, or was when it was killed, and who keeps the\n"
      "    others waiting; RUN_FOLDER: the records of the newest start, in its folder flight/\n\n";
  for (const Option& option : options()) {
    std::string words = option.name + (option.value.empty() ? "" : " " + option.value);
    words.resize(12, ' ');
    out += text("    ", words, option.help, "\n");
  }
  return out + "\nexit: 0, 65 a record is damaged (the others are shown), 66 there is none\n";
}

const Option& find_option(const std::string& name) {
  std::vector<std::string> names;
  for (const Option& option : options()) {
    if (option.name == name) return option;
    names.push_back(option.name);
  }
  const std::string near = nearest_name(name, names);
  throw UsageError("there is no option ", name, near.empty() ? "" : text("; did you mean ", near, "?"),
                   "; there are: ", join(names));
}

Request parse(const std::vector<std::string>& words) {
  Request request;
  for (size_t i = 0; i < words.size(); ++i) {
    const size_t sign = words[i].find('=');
    if (!words[i].starts_with('-')) {
      request.paths.push_back(words[i]);
      continue;
    }
    const Option& option = find_option(words[i].substr(0, sign));
    if (option.value.empty() != (sign == std::string::npos) && option.value.empty())
      throw UsageError(option.name, " takes no value");
    if (!option.value.empty() && sign == std::string::npos && ++i == words.size())
      throw UsageError(option.name, " wants a value: ", option.name, ' ', option.value);
    option.take(request, sign == std::string::npos ? words[i] : words[i].substr(sign + 1));
  }
  return request;
}

struct Logs {
  std::vector<FlightLog> logs;        // by rank
  std::vector<std::string> problems;  // of records that cannot be read
};

Logs read_all(const std::vector<std::string>& paths) {
  Logs out;
  for (const std::string& path : paths)
    for (const std::string& file : flight_files(path)) try {
        out.logs.push_back(read_flight_log(file));
      } catch (const DataError& problem) {
        out.problems.emplace_back(problem.what());
      }
  std::ranges::sort(out.logs, {}, &FlightLog::rank);
  for (size_t i = 1; i < out.logs.size(); ++i) {
    const FlightLog &one = out.logs[i - 1], &other = out.logs[i];
    if (one.rank == other.rank || one.ranks != other.ranks)
      throw UsageError(quoted(one.path), " is of rank ", one.rank, " of ", one.ranks, ", ",
                       quoted(other.path), " of rank ", other.rank, " of ", other.ranks,
                       "; give the records of one start of a run");
  }
  return out;
}

// "12:34:56.789" of the rank's own clock.
std::string clock_text(const FlightLog& log, int64_t time) {
  const int64_t since_1970 = log.wall_clock + time;
  const std::time_t seconds = since_1970 / 1'000'000'000;
  std::tm local{};
  localtime_r(&seconds, &local);
  return formatted("%02d:%02d:%02d.%03d", local.tm_hour, local.tm_min, local.tm_sec,
                   static_cast<int>(since_1970 / 1'000'000 % 1000));
}

std::string took_text(const FlightEntry& entry) {
  if (entry.ended == 0) return "not ended";
  const double seconds = static_cast<double>(entry.ended - entry.began) * 1e-9;
  return formatted(seconds < 1 ? "%.3f ms" : "%.3f s", seconds < 1 ? seconds * 1e3 : seconds);
}

std::span<const FlightEntry> newest(const FlightLog& log, int64_t most) {
  const auto all = std::span(log.entries);
  return all.last(std::min(all.size(), static_cast<size_t>(most)));
}

std::string leaving_text(const FlightLog& log) {
  if (log.leaving == Leaving::in_order) return ", left in good order";
  if (log.leaving == Leaving::by_abort) return text(", ended the job with exit code ", log.exit_code);
  return "";
}

void print_table(const FlightLog& log, int64_t most) {
  std::cout << "\nrank " << log.rank << " of " << log.ranks << " on " << log.host << ", pid " << log.pid
            << ", " << log.last << (log.last == 1 ? " collective" : " collectives") << leaving_text(log)
            << "\n";
  const auto entries = newest(log, most);
  const auto add = [](auto... values) {
    std::cout << formatted("%10s  %8s  %-10s  %-10s  %-4s  %10s  %-20s  %12s  %12s\n", values...);
  };
  if (!entries.empty()) add("collective", "step", "phase", "kind", "type", "bytes", "for", "began", "took");
  for (const FlightEntry& entry : entries)
    add(text(entry.sequence).c_str(), entry.step < 0 ? "-" : text(entry.step).c_str(), name_of(entry.phase),
        name_of(entry.kind), text(name_of(entry.type)).c_str(), text(entry.bytes).c_str(),
        entry.purpose.c_str(), clock_text(log, entry.began).c_str(), took_text(entry).c_str());
  if (log.torn) std::cout << "  collective " << log.last << " was being written down\n";
}

// The ranks of which there is no record, of a job of which there are several.
std::vector<int64_t> missing_ranks(const std::vector<FlightLog>& logs) {
  std::vector<int64_t> missing;
  for (int64_t rank = 0; rank < logs.front().ranks; ++rank)
    if (std::ranges::find(logs, rank, &FlightLog::rank) == logs.end()) missing.push_back(rank);
  return missing;
}

Json to_json(const FlightLog& log, int64_t most) {
  Json entries = Json::array();
  for (const FlightEntry& entry : newest(log, most)) {
    entries.push_back({{"sequence", entry.sequence},
                       {"kind", name_of(entry.kind)},
                       {"type", name_of(entry.type)},
                       {"bytes", entry.bytes},
                       {"purpose", entry.purpose},
                       {"phase", name_of(entry.phase)},
                       {"step", entry.step},
                       {"began_ns", log.wall_clock + entry.began},
                       {"ended_ns", entry.ended == 0 ? Json() : Json(log.wall_clock + entry.ended)}});
  }
  const std::array<const char*, 3> leaving = {"running", "in_order", "by_abort"};
  return {{"rank", log.rank},
          {"file", log.path},
          {"host", log.host},
          {"pid", log.pid},
          {"leaving", leaving.at(static_cast<size_t>(log.leaving))},
          {"exit_code", log.leaving == Leaving::by_abort ? Json(log.exit_code) : Json()},
          {"collectives", log.last},
          {"torn", log.torn},
          {"entries", std::move(entries)}};
}

void print_json(const Logs& all, const FlightFinding& found, int64_t most) {
  Json ranks = Json::array();
  for (const FlightLog& log : all.logs) ranks.push_back(to_json(log, most));
  const Json out = {{"finding", name_of(found.flight)},
                    {"culprits", found.culprits},
                    {"line", found.line},
                    {"ranks_of_job", all.logs.front().ranks},
                    {"missing", missing_ranks(all.logs)},
                    {"damaged", all.problems},
                    {"ranks", std::move(ranks)}};
  std::cout << out.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
}

void print(const Logs& all, const FlightFinding& found, int64_t most) {
  std::cout << found.line << "\n";
  const auto missing = missing_ranks(all.logs);
  if (all.logs.size() > 1 && !missing.empty())
    std::cout << "no record of rank " << short_list(missing) << " of " << all.logs.front().ranks << "\n";
  for (const FlightLog& log : all.logs) print_table(log, most);
}

int run(const std::vector<std::string>& words) {
  const Request request = parse(words);
  if (request.help) std::cout << help_text();
  if (request.version) std::cout << "lab_fr " << version << "\n";
  if (request.help || request.version) return 0;
  if (request.paths.empty())
    throw UsageError("name the folder of a run, or flight records of it; see lab_fr --help");
  const Logs all = read_all(request.paths);
  if (!all.logs.empty()) {
    const FlightFinding found = find_culprit(all.logs);
    request.json ? print_json(all, found, request.last) : print(all, found, request.last);
  }
  if (!all.problems.empty()) throw DataError(join(all.problems, "\nlab_fr: "));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_program("lab_fr", [&] { return run({argv + 1, argv + argc}); });
}
