#include "lab/track/clearml_sender.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <mutex>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "lab/core/error.h"
#include "lab/track/spool.h"
#include "track/console_sender.h"
#include "track/model_upload.h"
#include "track/sender_link.h"
#include "track/spool_round.h"

namespace lab {
namespace {

using detail::description_of;
using detail::is_refusal;
using detail::read_round;
using detail::Round;
using detail::SenderState;
using detail::SpooledModel;
using detail::SpooledStatus;
using detail::text_in;
using detail::waiting;

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::milliseconds;

constexpr const char* in_progress = "in_progress";

// After a crash of the node the spool may be shorter than it was. Then all of it is sent again: points
// replace themselves, the console is compared.
bool is_line_end(const std::string& spool, int64_t offset) {
  if (offset == 0) return true;
  std::ifstream in(spool, std::ios::binary);
  in.seekg(offset - 1);
  return in.get() == '\n';
}

SenderState known_state(const std::string& folder, const std::string& spool, const Log& log) {
  SenderState state = detail::known_sender_state(folder, log);
  if (!is_line_end(spool, state.offset)) state.offset = 0;
  return state;
}

}  // namespace

struct ClearmlSender::Impl {
  Impl(const std::string& run_folder, ClearmlSettings the_settings, Log the_log, ApiOptions options)
      : folder(run_folder),
        spool(run_folder + "/" + spool_file),
        settings(std::move(the_settings)),
        log(std::move(the_log)),
        link(folder, settings, log, options, known_state(folder, spool, log)) {}

  // The run folder may lie elsewhere by now.
  SpooledModel found(SpooledModel model) const {
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

  std::optional<ApiError> have_task(Clock::time_point end) {
    if (link.seen().task) return std::nullopt;
    const auto left = std::chrono::duration_cast<Milliseconds>(end - Clock::now());
    const RegisteredTask made = register_task(*link.api(), described(), left);
    if (made.error) return made.error;
    if (!made.warning.empty()) log.warn(made.warning);
    link.change([&](SenderState& s) {
      s.task = made.task;
      // It may be an earlier process's, whose state was lost: then some of the console is there.
      s.console_tried = std::numeric_limits<int64_t>::max();
    });
    const std::string page = results_page(settings, *made.task);
    log.info("ClearML task ", made.task->name, " (", made.task->id, ")", page.empty() ? "" : ": ", page);
    return std::nullopt;
  }

  std::optional<ApiError> send_status(const SpooledStatus& said, Clock::time_point end) {
    const ApiAnswer answer = link.call(said.status == in_progress ? "tasks.started" : "tasks." + said.status,
                                       {{"task", link.seen().task->id},
                                        {"force", true},
                                        {"status_reason", said.reason},
                                        {"status_message", said.message}},
                                       end);
    if (!answer.ok() && !is_refusal(*answer.error)) return answer.error;
    if (!answer.ok()) link.lose(1, answer.error->message);
    link.change([&](SenderState& s) { s.status = said.status; });
    return std::nullopt;
  }

  // A final status waits for what may stand behind it in the spool: where a rank dies, the thread that saves
  // may still tell of a model.
  std::optional<ApiError> deal_with_status(const Json& record, Clock::time_point end) {
    const SpooledStatus said = detail::status_of(record);
    const bool goes_on = said.status == in_progress;
    if (goes_on)
      if (auto error = send_status(said, end)) return error;
    link.change([&](SenderState& s) { s.end = goes_on ? std::nullopt : std::optional(said); });
    return std::nullopt;
  }

  // Behind all records.
  std::optional<ApiError> send_end(Clock::time_point end) {
    const SenderState state = link.seen();
    if (state.end_is_told()) return std::nullopt;
    return state.waiting.empty() ? send_status(*state.end, end) : waiting();
  }

  std::optional<ApiError> send_round(const Round& round, Clock::time_point end) {
    std::vector<Json> points, lines;
    std::map<std::string, SpooledModel> models;
    for (const Json& record : round.records) {
      const std::string type = record.value("type", "");
      if (type == "status") {
        if (auto error = deal_with_status(record, end)) return error;
      } else if (type == "model") {
        models[record.at("slot")] = detail::model_of(record);
      } else if (type == "log") {
        lines.push_back(record);
      } else if (type != "task") {
        points.push_back(record);
      }
    }
    if (auto error = link.add(points, true, end)) return error;
    if (auto error = console.send(lines, end)) return error;
    if (round.damaged > 0) link.lose(round.damaged, "their lines in " + spool + " are damaged");
    link.change([&](SenderState& s) {
      for (auto& [slot, model] : models) s.waiting[slot] = model;
      s.offset = round.end;
    });
    return std::nullopt;
  }

  std::string folder, spool;
  ClearmlSettings settings;
  Log log;
  detail::SenderLink link;
  detail::ConsoleSender console{link};
  mutable std::mutex mutex;         // guards the next
  std::optional<ModelStore> store;  // none until the task's description is read
  std::optional<TaskDescription> description;
};

ClearmlSender::ClearmlSender(const std::string& run_folder, ClearmlSettings settings, Log log, ApiOptions api)
    : impl_(std::make_unique<Impl>(run_folder, std::move(settings), std::move(log), api)) {}

ClearmlSender::~ClearmlSender() = default;

void ClearmlSender::claim(const TaskClaim& claim) {
  impl_->link.change([&](SenderState& s) {
    s.task = claim.task;
    s.adopted = claim.adopted;
  });
}

std::optional<TaskIdentity> ClearmlSender::task() const { return impl_->link.seen().task; }

std::optional<ApiError> ClearmlSender::send(Milliseconds deadline) {
  const auto end = Clock::now() + deadline;
  try {
    impl_->described();
    if (auto error = impl_->have_task(end)) return error;
    for (;;) {
      const int64_t offset = impl_->link.seen().offset;
      const Round round = read_round(impl_->spool, offset);
      if (round.end == offset) return impl_->send_end(end);
      if (auto error = impl_->send_round(round, end)) return error;
    }
  } catch (const std::exception& e) {  // a spool that somebody has changed
    return ApiError{.failure = HttpFailure::file, .message = e.what()};
  }
}

std::optional<ApiError> ClearmlSender::upload(Milliseconds deadline, bool reopen) {
  const auto end = Clock::now() + deadline;
  const auto before_reopening = [&] {
    if (reopen) impl_->link.change([](SenderState& s) { s.status = in_progress; });
    return reopen;
  };
  for (;;) {
    const auto state = impl_->link.seen();
    const auto store = impl_->known_store();
    if (state.waiting.empty() || !state.task || !store) return std::nullopt;
    const auto [slot, model] = *state.waiting.begin();
    const auto left = std::chrono::duration_cast<Milliseconds>(end - Clock::now());
    const auto error = detail::publish_model(*impl_->link.upload_api(), *store, impl_->settings, *state.task,
                                             slot, impl_->found(model), left, before_reopening);
    const bool lost = error && (is_refusal(*error) || error->failure == HttpFailure::bad_url);
    if (error && error->result_subcode == detail::not_in_this_status && !reopen) return waiting();
    if (error && !lost) return error;
    if (lost) impl_->link.lose(1, error->message);
    impl_->link.change([&, &name = slot, &sent = model](SenderState& s) {
      if (s.waiting[name] == sent) s.waiting.erase(name);  // else a newer one has come meanwhile
    });
  }
}

std::string ClearmlSender::refusals() const {
  const int64_t lost = impl_->link.seen().lost;
  if (lost == 0) return "";
  return text(
      lost, lost == 1 ? " record" : " records", " of ", impl_->folder,
      " did not get to ClearML: refused, or damaged here; to offer it all of them once more, as a new "
      "task where the old one is gone, remove ",
      impl_->folder, "/clearml.json and run: lab_sync ", impl_->folder);
}

bool ClearmlSender::done() const {
  const auto state = impl_->link.seen();
  return state.waiting.empty() && state.end_is_told() &&
         read_round(impl_->spool, state.offset).end == state.offset;
}

std::string ClearmlSender::left() const {
  const auto state = impl_->link.seen();
  std::error_code ignored;
  const auto size = std::filesystem::file_size(impl_->spool, ignored);
  const uint64_t bytes = ignored ? 0 : size - std::min(size, static_cast<uintmax_t>(state.offset));
  const size_t models = state.waiting.size();
  if (bytes == 0 && models == 0 && !state.end_is_told()) return "how the run ended";
  return text(byte_size(bytes), " of records",
              models == 0 ? "" : text(" and ", models, models == 1 ? " model" : " models"));
}

bool ClearmlSender::aborted(Milliseconds deadline) {
  const auto state = impl_->link.seen();
  if (!state.task || state.status != in_progress) return false;
  const ApiAnswer answer = impl_->link.call("tasks.get_all",
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
  if (status.empty() || status == in_progress) return message.find("stopping") != std::string::npos;
  return status != "created" && status != "queued" && message.find("worker") == std::string::npos;
}

void ClearmlSender::ping(Milliseconds deadline) {
  const auto state = impl_->link.seen();
  if (state.task && state.status == in_progress)
    impl_->link.call("tasks.ping", {{"task", state.task->id}}, Clock::now() + deadline);
}

void ClearmlSender::revive(Milliseconds deadline) {
  const auto state = impl_->link.seen();
  if (state.task && state.status == in_progress)
    impl_->link.call("tasks.started", {{"task", state.task->id}, {"force", true}}, Clock::now() + deadline);
}

void ClearmlSender::cancel() {
  impl_->link.api()->cancel();
  impl_->link.upload_api()->cancel();
}

void ClearmlSender::interrupt() {
  const auto before = impl_->link.api();
  impl_->link.renew();
  before->cancel();
}

}  // namespace lab
