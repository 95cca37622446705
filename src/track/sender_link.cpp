#include "track/sender_link.h"

#include <utility>

#include "lab/core/error.h"

namespace lab::detail {
namespace {

using Json = nlohmann::json;
using Milliseconds = std::chrono::milliseconds;

constexpr int too_large = 413;                     // what servers in between answer
constexpr size_t small_record = size_t{64} << 10;  // none of them means a record of so many bytes

std::string dumped(const Json& record) { return record.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace

bool is_refusal(const ApiError& error) {
  return !error.temporary && (error.result_code == 400 || error.http_code == too_large);
}

SenderLink::SenderLink(std::string run_folder, ClearmlSettings settings, Log log, ApiOptions options,
                       SenderState state)
    : folder_(std::move(run_folder)),
      settings_(std::move(settings)),
      log_(std::move(log)),
      options_(options),
      state_(std::move(state)) {
  renew();
}

void SenderLink::renew() {
  ApiOptions uploads = options_;
  uploads.limits.total = std::chrono::hours(24);  // as long as bytes go on
  uploads.seed = options_.seed + 1;
  const std::lock_guard lock(mutex_);
  api_ = std::make_shared<ClearmlApi>(settings_, options_);
  if (!upload_api_) upload_api_ = std::make_shared<ClearmlApi>(settings_, uploads);
}

std::shared_ptr<ClearmlApi> SenderLink::api() const {
  const std::lock_guard lock(mutex_);
  return api_;
}

std::shared_ptr<ClearmlApi> SenderLink::upload_api() const {
  const std::lock_guard lock(mutex_);
  return upload_api_;
}

SenderState SenderLink::seen() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

void SenderLink::change(const std::function<void(SenderState&)>& apply) {
  const std::lock_guard lock(mutex_);
  apply(state_);
  try {
    write_sender_state(folder_, state_);
  } catch (const IoError& e) {
    if (!std::exchange(said_disk_, true)) log_.warn(e.what());
  }
}

ApiAnswer SenderLink::call(const std::string& action, const Json& body, Clock::time_point end) {
  const auto left = std::chrono::duration_cast<Milliseconds>(end - Clock::now());
  return api()->call(action, dumped(body), {.deadline = left});
}

std::optional<ApiError> SenderLink::refused(const std::optional<ApiError>& error, size_t records) {
  if (!error || !is_refusal(*error)) return error;
  lose(static_cast<int64_t>(records), error->message);
  return std::nullopt;
}

void SenderLink::lose(int64_t records, const std::string& why) {
  if (!said_refused_.exchange(true))
    log_.warn("ClearML does not get ", records, " of the run's records: ", why);
  change([&](SenderState& s) { s.lost += records; });
}

std::optional<ApiError> SenderLink::add(const std::vector<Json>& records, bool repeatable,
                                        Clock::time_point end) {
  if (records.empty()) return std::nullopt;
  const std::string task = seen().task->id;
  std::vector<std::string> lines;
  for (Json record : records) {
    record["task"] = task;
    lines.push_back(dumped(record));
  }
  const auto left = std::chrono::duration_cast<Milliseconds>(end - Clock::now());
  const BatchAnswer answer = api()->add_batch(lines, {.deadline = left, .repeatable = repeatable});
  if (answer.refused > 0) lose(answer.refused, answer.complaint);
  if (answer.error && answer.error->http_code == too_large && records.size() > 1) {
    const auto middle = records.begin() + std::ssize(records) / 2;
    if (auto error = add({records.begin(), middle}, repeatable, end)) return error;
    auto error = add({middle, records.end()}, repeatable, end);
    if (error) error->may_have_worked = true;  // the first half did
    return error;
  }
  auto error = answer.error;
  if (error && error->http_code == too_large && lines.front().size() < small_record) {
    error->temporary = true;
    return error;
  }
  return refused(error, records.size());
}

}  // namespace lab::detail
