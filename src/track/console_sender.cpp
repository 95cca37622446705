#include "track/console_sender.h"

#include <algorithm>
#include <utility>

#include "lab/core/text.h"

namespace lab::detail {
namespace {

using Json = nlohmann::json;

constexpr size_t longest_message = size_t{1} << 20;  // of one event

// The time of the newest event in an answer to events.get_task_log that is not later than `until`; 0: none.
int64_t newest_time(const std::string& answer, int64_t until) {
  int64_t newest = 0;
  const Json data = Json::parse(answer, nullptr, false);
  if (data.is_object() && data.contains("events") && data["events"].is_array())
    for (const Json& event : data["events"])
      if (event.is_object() && event.contains("timestamp") && event["timestamp"].is_number())
        if (const auto time = event["timestamp"].get<int64_t>(); time <= until)
          newest = std::max(newest, time);
  return newest;
}

// Lines within a second of the first, with one level, are one event, whose time is that of the last: so the
// newest event says up to where the server has them.
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

}  // namespace

std::optional<ApiError> ConsoleSender::find(Clock::time_point end) {
  const auto state = link_.seen();
  if (state.console_tried <= state.console_sent) return std::nullopt;
  const auto wait =
      std::chrono::duration_cast<std::chrono::milliseconds>(unsure_since_ + until_seen - Clock::now());
  if (wait.count() > 0) return waiting();
  const ApiAnswer answer =
      link_.call("events.get_task_log",
                 {{"task", state.task->id}, {"batch_size", 100}, {"navigate_earlier", true}}, end);
  if (!answer.ok() && answer.error->temporary) return answer.error;
  const int64_t newest = newest_time(answer.data, state.console_tried);
  link_.change([&](SenderState& s) {
    s.console_sent = std::max(s.console_sent, newest);
    s.console_tried = s.console_sent;
  });
  return std::nullopt;
}

std::optional<ApiError> ConsoleSender::send(std::vector<Json> lines, Clock::time_point end) {
  if (link_.seen().adopted || lines.empty()) return std::nullopt;
  if (auto error = find(end)) return error;
  const int64_t sent = link_.seen().console_sent;
  std::erase_if(lines, [&](const Json& line) { return line.value("timestamp", int64_t{0}) <= sent; });
  if (lines.empty()) return std::nullopt;
  const auto last = lines.back().at("timestamp").get<int64_t>();
  link_.change([&](SenderState& s) { s.console_tried = last; });
  const auto error = link_.add(joined(lines), false, end);
  unsure_since_ = Clock::now();
  if (error && !error->may_have_worked) link_.change([&](SenderState& s) { s.console_tried = sent; });
  if (!error) link_.change([&](SenderState& s) { s.console_sent = last; });
  return error;
}

}  // namespace lab::detail
