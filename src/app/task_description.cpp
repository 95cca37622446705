#include "app/task_description.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "app/python_list.h"
#include "lab/core/error.h"
#include "lab/core/process.h"

namespace lab {
namespace {

using Json = nlohmann::ordered_json;

Json json_of(const Value& value) {
  struct Visitor {
    Json operator()(const Array& array) const {
      Json out = Json::array();
      for (const Value& item : array) out.push_back(json_of(item));
      return out;
    }
    Json operator()(const Table& table) const {
      Json out = Json::object();
      for (const auto& entry : table.entries) out[entry.key] = json_of(entry.value);
      return out;
    }
    Json operator()(bool flag) const { return flag; }
    Json operator()(int64_t number) const { return number; }
    Json operator()(double number) const { return number; }
    Json operator()(const std::string& words) const { return words; }
  };
  return std::visit(Visitor{}, value.data);
}

// 0.001 as "0.001", 1.0 as "1.0", 1e-7 as "1e-07": as Python writes them.
std::string python_float(double number) {
  std::string text = shortest(number);
  if (const size_t e = text.find('e'); e != std::string::npos) {
    const size_t digits = text.find_first_of("0123456789", e);
    if (text.size() - digits == 1) text.insert(digits, "0");
    return text;
  }
  return text.find_first_not_of("-0123456789") == std::string::npos ? text + ".0" : text;
}

std::string random_hex() {
  std::random_device device;
  std::string out;
  for (int i = 0; i < 16; ++i) out += "0123456789abcdef"[device() % 16];
  return out;
}

// What git says, line by line; nothing where it fails.
std::vector<std::string> git(std::vector<std::string> words) {
  words.insert(words.begin(), {"/usr/bin/env", "git"});
  std::vector<std::string> lines;
  try {
    const ProgramResult result = run_program(words);
    if (result.status != 0) return lines;
    std::istringstream in(result.output);
    for (std::string line; std::getline(in, line);) lines.push_back(line);
  } catch (const IoError&) {
    return {};
  }
  return lines;
}

}  // namespace

TaskParameter task_parameter(const std::string& dotted_key, const Value& value) {
  TaskParameter out;
  out.name = dotted_key;
  std::ranges::replace(out.name, '.', '/');
  struct Visitor {
    TaskParameter& out;
    void operator()(bool flag) const { set(flag ? "True" : "False", "bool"); }
    void operator()(int64_t number) const { set(std::to_string(number), "int"); }
    void operator()(double number) const { set(python_float(number), "float"); }
    void operator()(const std::string& words) const { set(words, "str"); }
    void operator()(const Array&) const { out.type = "list"; }
    void operator()(const Table&) const { out.type = "dict"; }
    void set(const std::string& text, const char* type) const {
      out.value = text;
      out.type = type;
    }
  };
  std::visit(Visitor{out}, value.data);
  if (out.type == "list" || out.type == "dict")
    out.value = json_of(value).dump(-1, ' ', false, Json::error_handler_t::replace);
  return out;
}

std::optional<std::string> toml_of_parameter(const std::string& value, const std::string& type) {
  if (value.empty() && type != "str") return std::nullopt;
  if (type == "bool" || value == "True" || value == "False")
    return value == "True" ? "true" : value == "False" ? "false" : value;
  if (value == "None") return std::nullopt;
  if (!type.starts_with("list")) return value;
  const Json list = Json::parse(value, nullptr, false);
  if (!list.is_discarded()) return list.dump();
  const auto as_python = python_list(value);
  return as_python ? as_python->dump() : value;
}

std::string without_credentials(const std::string& repository) {
  const size_t scheme = repository.find("://");
  if (scheme == std::string::npos) return repository;  // user@host:path has no password
  const size_t begin = scheme + 3, end = repository.find('/', begin);
  const size_t at = repository.substr(0, end).rfind('@');
  if (at == std::string::npos || at < begin) return repository;
  return repository.substr(0, begin) + repository.substr(at + 1);
}

TaskScript task_script(const std::vector<std::string>& argv, bool with_diff) {
  TaskScript script;
  script.binary = std::filesystem::path(argv.front()).filename().string();
  for (size_t i = 1; i < argv.size(); ++i) script.entry_point += (i > 1 ? " " : "") + argv[i];
  script.working_dir = ".";
  const auto place = git({"rev-parse", "HEAD", "--abbrev-ref", "HEAD", "--show-prefix"});
  if (place.size() < 2) return script;
  script.commit = place[0];
  script.branch = place[1];
  if (place.size() > 2 && !place[2].empty()) script.working_dir = place[2];
  if (const auto url = git({"config", "--get", "remote.origin.url"}); !url.empty())
    script.repository = without_credentials(url.front());
  if (with_diff) script.diff = join(git({"diff", "HEAD"}), "\n");
  return script;
}

TaskDescription task_description(const RunConfig& config, const RunNames& names,
                                 const std::vector<std::string>& argv) {
  TaskDescription task;
  const std::string name = task_name(names, "");
  task.stem = name.substr(0, name.size() - 1);
  task.token = random_hex();
  task.project = config.task.project_name;
  task.type = config.task.task_type;
  task.tags = config.task.tags;
  task.parent = config.checkpoint.checkpoint_task_id;
  task.output_uri = config.task.output_uri;
  for (const auto& [key, value] : config.resolved) task.parameters.push_back(task_parameter(key, value));
  task.configuration = to_toml(config.resolved, false);
  task.script = task_script(argv, config.task.store_diff);
  return task;
}

}  // namespace lab
