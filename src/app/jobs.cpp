#include "app/jobs.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "lab/core/formatted.h"
#include "lab/core/range.h"
#include "lab/core/text.h"

namespace lab {
namespace {

using Json = nlohmann::ordered_json;

std::string stem_of(const std::string& config) { return std::filesystem::path(config).stem().string(); }

Json optional_json(const std::optional<double>& value) { return value ? Json(*value) : Json(); }
std::optional<double> optional_from(const Json& json) {
  return json.is_number() ? std::optional(json.get<double>()) : std::nullopt;  // a NaN is null
}

}  // namespace

RankGroups rank_groups(int rank, int ranks, int jobs) {
  const int groups = std::min(ranks, jobs);
  for (int group = 0; group < groups; ++group)
    if (rank < shard(ranks, group, groups).end()) return {groups, group};
  return {groups, groups - 1};
}

int ranks_of_job(int job, int ranks, int jobs) {
  return ranks < jobs ? 1 : static_cast<int>(shard(ranks, job, jobs).count);
}

std::vector<std::string> job_labels(std::span<const std::string> configs) {
  std::vector<std::string> stems;
  for (const auto& config : configs) stems.push_back(stem_of(config));
  std::vector<std::string> labels = stems;
  for (size_t i = 0; i < stems.size(); ++i)
    if (std::ranges::count(stems, stems[i]) > 1) labels[i] = text(i + 1, ':', stems[i]);
  return labels;
}

std::string to_text(const JobResult& result) {
  const Json json = {{"job", result.job},         {"ranks", result.ranks},
                     {"status", result.status},   {"code", result.code},
                     {"name", result.name},       {"error", result.error},
                     {"epochs", result.epochs},   {"best", optional_json(result.best)},
                     {"seconds", result.seconds}, {"last", optional_json(result.last)}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

JobResult job_result_from_text(const std::string& text) {
  const Json json = Json::parse(text);
  return {.job = json.at("job"),
          .ranks = json.at("ranks"),
          .status = json.at("status"),
          .code = json.at("code"),
          .name = json.at("name"),
          .error = json.at("error"),
          .epochs = json.at("epochs"),
          .best = optional_from(json.at("best")),
          .last = optional_from(json.at("last")),
          .seconds = json.at("seconds")};
}

ExitCode exit_code_of(std::span<const JobResult> results) {
  for (const bool failed : {true, false})
    for (const auto& result : results)
      if (result.code != ExitCode::done && (!failed || result.status == JobStatus::failed))
        return result.code;
  return ExitCode::done;
}

namespace {

constexpr size_t name_columns = 20;

const char* name_of(JobStatus status) {
  constexpr std::array names = {"not started", "completed", "stopped", "failed"};
  return names.at(static_cast<size_t>(status));
}

// Long ones lose their middle.
std::string fitted(const std::string& name) {
  if (name.size() <= name_columns) return name;
  const size_t half = (name_columns - 2) / 2;
  return text(name.substr(0, half), "..", name.substr(name.size() - half));
}

std::string value_of(const JobResult& result) {
  const auto value = result.best ? result.best : result.last;
  if (!value) return "-";
  const std::string digits = formatted("%.4g", *value);
  return text(result.best ? "best " : "last ", digits.size() > 10 ? formatted("%.3g", *value) : digits);
}

std::string time_of(double seconds) {
  const auto all = static_cast<long>(seconds);
  if (all >= 36'000) return formatted("%ld h", all / 3600);
  return all >= 3600 ? formatted("%ld:%02ld:%02ld", all / 3600, all / 60 % 60, all % 60)
                     : formatted("%ld:%02ld", all / 60, all % 60);
}

}  // namespace

std::string jobs_table(std::span<const JobResult> results, std::span<const std::string> configs) {
  const auto row = [](auto... cells) {
    return formatted("%3s  %-20s %5s  %-11s %6s %15s %7s %4s\n", cells...);
  };
  std::string out = row("job", "name", "ranks", "status", "epochs", "value", "time", "exit");
  for (const auto& result : results) {
    const bool began = result.status != JobStatus::not_started;
    const std::string config = configs[static_cast<size_t>(result.job)];
    const std::string name = fitted(result.name.empty() ? stem_of(config) : result.name);
    out += row(text(result.job + 1).c_str(), name.c_str(), text(result.ranks).c_str(), name_of(result.status),
               text(result.epochs).c_str(), value_of(result).c_str(),
               began ? time_of(result.seconds).c_str() : "-",
               began ? text(static_cast<int>(result.code)).c_str() : "-");
  }
  return out;
}

}  // namespace lab
