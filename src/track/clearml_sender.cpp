#include "lab/track/clearml_sender.h"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <limits>
#include <mutex>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "lab/core/error.h"
#include "lab/track/spool.h"
#include "track/model_upload.h"
#include "track/sender_state.h"
#include "track/spool_round.h"

namespace lab {
namespace {

using detail::description_of;
using detail::joined;
using detail::read_round;
using detail::Round;
using detail::text_in;

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::milliseconds;

constexpr int too_large = 413;                           // what servers in between answer
constexpr size_t small_record = size_t{64} << 10;        // none of them means a record of so many bytes
constexpr Milliseconds until_seen = Milliseconds(2000);  // a server shows new events a little later

std::string dumped(const Json& record) { return record.dump(-1, ' ', false, Json::error_handler_t::replace); }

// There is something else to be done first: no trouble to be told about.
ApiError waiting() { return {.temporary = true}; }

// The server understood and says no: to send the same again changes nothing.
bool is_refusal(const ApiError& error) {
  return !error.temporary && (error.result_code == 400 || error.http_code == too_large);
}

}  // namespace

struct ClearmlSender::Impl {
  Impl(const std::string& run_folder, ClearmlSettings the_settings, Log the_log, ApiOptions the_options)
      : folder(run_folder),
        spool(run_folder + "/" + spool_file),
        settings(std::move(the_settings)),
        log(std::move(the_log)),
        options(the_options),
        state(detail::known_sender_state(folder, log)) {
    renew();
    unsure_since = Clock::now() - until_seen;  // of an earlier process
    if (!is_line_end(state.offset)) state.offset = 0;
  }

  void renew() {
    ApiOptions uploads = options;
    uploads.limits.total = std::chrono::hours(24);  // as long as bytes go on
    uploads.seed = options.seed + 1;
    const std::lock_guard lock(mutex);
    api = std::make_shared<ClearmlApi>(settings, options);
    if (!upload_api) upload_api = std::make_shared<ClearmlApi>(settings, uploads);
  }

  // After a crash of the node the spool may be shorter than it was. Then all of it is sent again: points
  // replace themselves, the console is compared.
  bool is_line_end(int64_t offset) const {
    if (offset == 0) return true;
    std::ifstream in(spool, std::ios::binary);
    in.seekg(offset - 1);
    return in.get() == '\n';
  }

  std::shared_ptr<ClearmlApi> current(std::shared_ptr<ClearmlApi> Impl::*which) {
    const std::lock_guard lock(mutex);
    return this->*which;
  }

  // Takes part of the state to the disk; a disk that is full costs at most that things are sent again.
  template <class Change>
  void change(const Change& apply) {
    const std::lock_guard lock(mutex);
    apply(state);
    try {
      detail::write_sender_state(folder, state);
    } catch (const IoError& e) {
      if (!std::exchange(said_disk, true)) log.warn(e.what());
    }
  }
  detail::SenderState seen() const {
    const std::lock_guard lock(mutex);
    return state;
  }

  // The run folder may lie elsewhere by now.
  detail::WaitingModel found(detail::WaitingModel model) const {
    std::error_code ignored;
    const std::string name = std::filesystem::path(model.file).filename().string();
    if (!std::filesystem::exists(model.file, ignored)) model.file = folder + "/checkpoints/" + name;
    return model;
  }

  std::optional<ModelStore> known_store() const {
    const std::lock_guard lock(mutex);
    return store;
  }

  const TaskDescription& described() {
    if (!description) {
      const Round first = read_round(spool, 0);
      if (first.records.empty() || first.records.front().value("type", "") != "task")
        throw DataError(spool, " does not begin with the task; nothing can be sent from it");
      description = description_of(first.records.front());
      const ModelStore where = model_store(description->output_uri, settings);
      const std::lock_guard lock(mutex);
      store = where;
    }
    return *description;
  }

  ApiAnswer call(const std::string& action, const Json& body, Clock::time_point end) {
    const auto left = std::chrono::duration_cast<Milliseconds>(end - Clock::now());
    return current(&Impl::api)->call(action, dumped(body), {.deadline = left});
  }

  std::optional<ApiError> have_task(Clock::time_point end) {
    if (seen().task) return std::nullopt;
    const auto left = std::chrono::duration_cast<Milliseconds>(end - Clock::now());
    const RegisteredTask made = register_task(*current(&Impl::api), described(), left);
    if (made.error) return made.error;
    if (!made.warning.empty()) log.warn(made.warning);
    change([&](detail::SenderState& s) {
      s.task = made.task;
      // It may be an earlier process's, whose state was lost: then some of the console is there.
      s.console_tried = std::numeric_limits<int64_t>::max();
    });
    const std::string page = results_page(settings, *made.task);
    log.info("ClearML task ", made.task->name, " (", made.task->id, ")", page.empty() ? "" : ": ", page);
    return std::nullopt;
  }

  // Says what the server refuses and goes on without it: all that comes behind matters too.
  std::optional<ApiError> refused(const std::optional<ApiError>& error, size_t records) {
    if (!error || !is_refusal(*error)) return error;
    lose(static_cast<int64_t>(records), error->message);
    return std::nullopt;
  }
  void lose(int64_t records, const std::string& why) {
    if (!said_refused.exchange(true))
      log.warn("ClearML does not get ", records, " of the run's records: ", why);
    change([&](detail::SenderState& s) { s.lost += records; });
  }

  std::optional<ApiError> add(const std::vector<Json>& records, bool repeatable, Clock::time_point end) {
    if (records.empty()) return std::nullopt;
    const std::string task = seen().task->id;
    std::vector<std::string> lines;
    for (Json record : records) {
      record["task"] = task;
      lines.push_back(dumped(record));
    }
    const auto left = std::chrono::duration_cast<Milliseconds>(end - Clock::now());
    const BatchAnswer answer =
        current(&Impl::api)->add_batch(lines, {.deadline = left, .repeatable = repeatable});
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

  // The console is the one thing that is doubled when it is sent twice: where an answer was lost, the server
  // is asked first.
  std::optional<ApiError> find_console(Clock::time_point end) {
    const auto state_now = seen();
    if (state_now.console_tried <= state_now.console_sent) return std::nullopt;
    const auto wait = std::chrono::duration_cast<Milliseconds>(unsure_since + until_seen - Clock::now());
    if (wait.count() > 0) return waiting();
    const ApiAnswer answer =
        call("events.get_task_log",
             {{"task", state_now.task->id}, {"batch_size", 100}, {"navigate_earlier", true}}, end);
    if (!answer.ok() && answer.error->temporary) return answer.error;
    const int64_t newest = detail::newest_time(answer.data, state_now.console_tried);
    change([&](detail::SenderState& s) {
      s.console_sent = std::max(s.console_sent, newest);
      s.console_tried = s.console_sent;
    });
    return std::nullopt;
  }

  std::optional<ApiError> send_console(std::vector<Json> lines, Clock::time_point end) {
    if (seen().adopted || lines.empty()) return std::nullopt;
    if (auto error = find_console(end)) return error;
    const int64_t sent = seen().console_sent;
    std::erase_if(lines, [&](const Json& line) { return line.value("timestamp", int64_t{0}) <= sent; });
    if (lines.empty()) return std::nullopt;
    const auto last = lines.back().at("timestamp").get<int64_t>();
    change([&](detail::SenderState& s) { s.console_tried = last; });
    const auto error = add(joined(lines), false, end);
    unsure_since = Clock::now();
    if (error && !error->may_have_worked) change([&](detail::SenderState& s) { s.console_tried = sent; });
    if (!error) change([&](detail::SenderState& s) { s.console_sent = last; });
    return error;
  }

  std::optional<ApiError> send_status(const Json& record, Clock::time_point end) {
    const std::string status = record.value("status", "");
    const std::string call_of = status == "in_progress" ? "tasks.started" : "tasks." + status;
    const ApiAnswer answer = call(call_of,
                                  {{"task", seen().task->id},
                                   {"force", true},
                                   {"status_reason", record.value("reason", "")},
                                   {"status_message", record.value("message", "")}},
                                  end);
    if (!answer.ok() && !is_refusal(*answer.error)) return answer.error;
    if (!answer.ok()) lose(1, answer.error->message);
    change([&](detail::SenderState& s) { s.status = status; });
    return std::nullopt;
  }

  std::optional<ApiError> send_round(const Round& round, Clock::time_point end) {
    std::vector<Json> points, console;
    std::map<std::string, detail::WaitingModel> models;
    for (const Json& record : round.records) {
      const std::string type = record.value("type", "");
      if (type == "status") {
        const bool is_last = read_round(spool, round.end).end == round.end;
        if (text_in(record, "status") != "in_progress" && is_last && !seen().waiting.empty())
          return waiting();
        if (auto error = send_status(record, end)) return error;
      } else if (type == "model") {
        models[record.at("slot")] = {record.at("file"), record.at("design"), record.at("iter")};
      } else if (type == "log") {
        console.push_back(record);
      } else if (type != "task") {
        points.push_back(record);
      }
    }
    if (auto error = add(points, true, end)) return error;
    if (auto error = send_console(console, end)) return error;
    if (round.damaged > 0) lose(round.damaged, "their lines in " + spool + " are damaged");
    change([&](detail::SenderState& s) {
      for (auto& [slot, model] : models) s.waiting[slot] = model;
      s.offset = round.end;
    });
    return std::nullopt;
  }

  std::string folder, spool;
  ClearmlSettings settings;
  Log log;
  ApiOptions options;
  mutable std::mutex mutex;  // guards the next four
  detail::SenderState state;
  std::shared_ptr<ClearmlApi> api, upload_api;
  std::optional<ModelStore> store;  // none until the task's description is read
  std::optional<TaskDescription> description;
  Clock::time_point unsure_since;
  bool said_disk = false;
  std::atomic<bool> said_refused = false;
};

ClearmlSender::ClearmlSender(const std::string& run_folder, ClearmlSettings settings, Log log, ApiOptions api)
    : impl_(std::make_unique<Impl>(run_folder, std::move(settings), std::move(log), api)) {}

ClearmlSender::~ClearmlSender() = default;

void ClearmlSender::claim(const TaskClaim& claim) {
  impl_->change([&](detail::SenderState& s) {
    s.task = claim.task;
    s.adopted = claim.adopted;
  });
}

std::optional<TaskIdentity> ClearmlSender::task() const { return impl_->seen().task; }

std::optional<ApiError> ClearmlSender::send(Milliseconds deadline) {
  const auto end = Clock::now() + deadline;
  try {
    impl_->described();
    if (auto error = impl_->have_task(end)) return error;
    for (;;) {
      const int64_t offset = impl_->seen().offset;
      const Round round = read_round(impl_->spool, offset);
      if (round.end == offset) return std::nullopt;
      if (auto error = impl_->send_round(round, end)) return error;
    }
  } catch (const std::exception& e) {  // a spool that somebody has changed
    return ApiError{.failure = HttpFailure::file, .message = e.what()};
  }
}

std::optional<ApiError> ClearmlSender::upload(Milliseconds deadline, bool reopen) {
  const auto end = Clock::now() + deadline;
  for (;;) {
    const auto state = impl_->seen();
    const auto store = impl_->known_store();
    if (state.waiting.empty() || !state.task || !store) return std::nullopt;
    const auto [slot, model] = *state.waiting.begin();
    const auto left = std::chrono::duration_cast<Milliseconds>(end - Clock::now());
    const auto error = detail::publish_model(*impl_->current(&Impl::upload_api), *store, impl_->settings,
                                             *state.task, slot, impl_->found(model), left, reopen);
    const bool lost = error && (is_refusal(*error) || error->failure == HttpFailure::bad_url);
    if (error && error->result_subcode == detail::not_in_this_status && !reopen) return waiting();
    if (error && !lost) return error;
    if (lost) impl_->lose(1, error->message);
    impl_->change([&, &name = slot, &sent = model](detail::SenderState& s) {
      if (s.waiting[name] == sent) s.waiting.erase(name);  // else a newer one has come meanwhile
    });
  }
}

std::string ClearmlSender::refusals() const {
  const int64_t lost = impl_->seen().lost;
  if (lost == 0) return "";
  return text(
      lost, lost == 1 ? " record" : " records", " of ", impl_->folder,
      " did not get to ClearML: refused, or damaged here; to offer it all of them once more, as a new "
      "task where the old one is gone, remove ",
      impl_->folder, "/clearml.json and run: lab_sync ", impl_->folder);
}

bool ClearmlSender::done() const {
  const auto state = impl_->seen();
  return state.waiting.empty() && read_round(impl_->spool, state.offset).end == state.offset;
}

std::string ClearmlSender::left() const {
  const auto state = impl_->seen();
  std::error_code ignored;
  const auto size = std::filesystem::file_size(impl_->spool, ignored);
  const uint64_t bytes = ignored ? 0 : size - std::min(size, static_cast<uintmax_t>(state.offset));
  const size_t models = state.waiting.size();
  return text(byte_size(bytes), " of records",
              models == 0 ? "" : text(" and ", models, models == 1 ? " model" : " models"));
}

bool ClearmlSender::aborted(Milliseconds deadline) {
  const auto state = impl_->seen();
  if (!state.task || state.status != "in_progress") return false;
  const ApiAnswer answer = impl_->call("tasks.get_all",
                                       {{"id", {state.task->id}},
                                        {"only_fields", {"id", "status", "status_message"}},
                                        {"search_hidden", true}},
                                       Clock::now() + deadline);
  if (!answer.ok()) return false;
  const Json data = Json::parse(answer.data, nullptr, false);
  if (!data.is_object() || !data.contains("tasks") || !data["tasks"].is_array() || data["tasks"].empty())
    return false;
  const Json& row = data["tasks"][0];
  const std::string status = text_in(row, "status"), message = text_in(row, "status_message");
  if (status.empty() || status == "in_progress") return message.find("stopping") != std::string::npos;
  return status != "created" && status != "queued" && message.find("worker") == std::string::npos;
}

void ClearmlSender::ping(Milliseconds deadline) {
  const auto state = impl_->seen();
  if (state.task && state.status == "in_progress")
    impl_->call("tasks.ping", {{"task", state.task->id}}, Clock::now() + deadline);
}

void ClearmlSender::revive(Milliseconds deadline) {
  const auto state = impl_->seen();
  if (state.task && state.status == "in_progress")
    impl_->call("tasks.started", {{"task", state.task->id}, {"force", true}}, Clock::now() + deadline);
}

void ClearmlSender::cancel() {
  impl_->current(&Impl::api)->cancel();
  impl_->current(&Impl::upload_api)->cancel();
}

void ClearmlSender::interrupt() {
  const auto before = impl_->current(&Impl::api);
  impl_->renew();
  before->cancel();
}

}  // namespace lab
