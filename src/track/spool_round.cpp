#include "track/spool_round.h"

#include <fstream>

#include "lab/core/text.h"

namespace lab::detail {
namespace {

using Json = nlohmann::json;

constexpr size_t most_at_once = size_t{4} << 20;     // bytes of the spool in one round
constexpr size_t longest_message = size_t{1} << 20;  // of one event of the console

}  // namespace

std::string text_in(const Json& record, const char* key) {
  if (!record.is_object()) return "";
  const auto found = record.find(key);
  return found != record.end() && found->is_string() ? found->get<std::string>() : "";
}

Round read_round(const std::string& path, int64_t offset) {
  Round round{{}, offset};
  std::ifstream in(path, std::ios::binary);
  in.seekg(offset);
  for (std::string line; std::getline(in, line) && !in.eof();) {
    Json record = Json::parse(line, nullptr, false);
    const bool is_status = text_in(record, "type") == "status";
    if (is_status && !round.records.empty()) break;
    round.end += std::ssize(line) + 1;
    if (record.is_object()) round.records.push_back(std::move(record));
    if (is_status || round.end - offset > static_cast<int64_t>(most_at_once)) break;
  }
  return round;
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

std::vector<Json> joined(const std::vector<Json>& lines) {
  std::vector<Json> events;
  int64_t first = 0;
  for (const Json& line : lines) {
    const auto time = line.at("timestamp").get<int64_t>();
    const auto& message = line.at("msg").get_ref<const std::string&>();
    const bool fits =
        !events.empty() && events.back().at("level") == line.at("level") && time - first < 1000 &&
        events.back().at("msg").get_ref<const std::string&>().size() + message.size() < longest_message;
    if (!fits) {
      events.push_back(line);
      first = time;
      continue;
    }
    events.back()["msg"] = text(events.back().at("msg").get_ref<const std::string&>(), '\n', message);
    events.back()["timestamp"] = time;
  }
  return events;
}

}  // namespace lab::detail
