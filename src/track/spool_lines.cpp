#include "track/spool_lines.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <string_view>
#include <vector>

#include "lab/core/error.h"

namespace lab::detail {
namespace {

using Json = nlohmann::json;

bool is_one_of(const std::string& word, std::initializer_list<std::string_view> words) {
  return std::ranges::find(words, word) != words.end();
}

bool has_texts(const Json& record, std::initializer_list<const char*> keys) {
  return std::ranges::all_of(
      keys, [&](const char* key) { return record.contains(key) && record.at(key).is_string(); });
}

bool has_integer(const Json& record, const char* key) {
  const auto found = record.find(key);
  if (found == record.end() || !found->is_number_integer()) return false;
  return !found->is_number_unsigned() || found->get<uint64_t>() <= uint64_t{INT64_MAX};
}

bool is_description(const Json& record) {
  try {
    description_of(record);
    return true;
  } catch (const Json::exception&) {
    return false;
  }
}

// Whether a server would take what is made of it.
bool is_whole(const Json& record) {
  const std::string type = text_in(record, "type");
  if (type == "task") return is_description(record);
  if (type == "status")
    return has_texts(record, {"reason", "message"}) &&
           is_one_of(text_in(record, "status"), {"in_progress", "completed", "failed", "stopped"});
  if (type == "model") return has_texts(record, {"slot", "file", "design"}) && has_integer(record, "iter");
  if (!has_integer(record, "timestamp")) return false;
  if (type == "log")
    return has_texts(record, {"worker", "msg"}) &&
           is_one_of(text_in(record, "level"), {"info", "warning", "error"});
  if (!is_point(record) || !has_texts(record, {"metric", "variant"}) || !has_integer(record, "iter"))
    return false;
  return type == "plot" ? Json::accept(text_in(record, "plot_str"))
                        : record.contains("value") && record.at("value").is_number();
}

}  // namespace

SpoolLines::SpoolLines(const std::string& path, int64_t offset)
    : path_(path), in_(path, std::ios::binary), end_(offset) {
  std::error_code ignored;
  if (!in_ && std::filesystem::exists(path, ignored))
    throw IoError("cannot read ", path, ": ", system_error_text(errno), "; check its rights");
  in_.seekg(offset);
}

std::optional<SpoolLine> SpoolLines::next() {
  std::string line;
  if (!std::getline(in_, line)) {
    if (in_.bad())
      throw IoError("cannot read ", path_, ": ", system_error_text(errno), "; is its disk all right?");
    return std::nullopt;
  }
  const bool ended = !in_.eof();
  end_ += std::ssize(line) + (ended ? 1 : 0);
  Json record = Json::parse(line, nullptr, false);
  return SpoolLine{is_whole(record) ? std::move(record) : Json(), end_, ended};
}

std::string text_in(const Json& record, const char* key) {
  if (!record.is_object()) return "";
  const auto found = record.find(key);
  return found != record.end() && found->is_string() ? found->get<std::string>() : "";
}

bool is_point(const Json& record) {
  return is_one_of(text_in(record, "type"), {"training_stats_scalar", "plot"});
}

SpooledStatus status_of(const Json& record) {
  return {text_in(record, "status"), text_in(record, "reason"), text_in(record, "message")};
}

SpooledModel model_of(const Json& record) {
  return {text_in(record, "file"), text_in(record, "design"), record.at("iter").get<int64_t>()};
}

TaskDescription description_of(const Json& record) {
  TaskDescription task;
  task.stem = record.at("stem");
  task.token = record.at("token");
  task.project = record.at("project");
  task.type = record.at("task_type");
  task.parent = record.at("parent");
  task.tags = record.at("tags").get<std::vector<std::string>>();
  task.output_uri = record.at("output_uri");
  for (const Json& item : record.at("parameters"))
    task.parameters.push_back({item.at("name"), item.at("value"), item.at("type")});
  task.configuration = record.at("configuration");
  const Json& script = record.at("script");
  task.script = {script.at("binary"),     script.at("entry_point"), script.at("working_dir"),
                 script.at("repository"), script.at("branch"),      script.at("commit"),
                 script.at("diff")};
  return task;
}

}  // namespace lab::detail
