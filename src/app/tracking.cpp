#include "app/tracking.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>

#include "app/task_description.h"
#include "lab/core/error.h"
#include "lab/track/offline_session.h"

namespace lab {
namespace {

using Json = nlohmann::ordered_json;
using std::chrono::milliseconds;

constexpr milliseconds for_the_name{5'000};
constexpr milliseconds for_the_agent{60'000};
constexpr milliseconds for_the_last_word{5'000};

ApiOptions api_options() {
  std::random_device device;
  return {.limits = {}, .retry = {}, .body_bytes = ApiOptions{}.body_bytes, .seed = device()};
}

bool is_on(const std::map<std::string, std::string>& environment, const std::string& name) {
  const auto found = environment.find(name);
  if (found == environment.end() || found->second.empty()) return false;
  std::string word = found->second;
  std::ranges::transform(word, word.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return !(word == "0" || word == "n" || word == "no" || word == "f" || word == "false" || word == "off");
}

// What stands beside a model on the server: when and how good it is.
std::string model_notes(const RunState& state) {
  Json metrics = Json::object();
  for (const auto& [tag, value] : state.values) metrics[tag] = value;
  const Json notes = {
      {"time", utc_text(std::chrono::system_clock::now())}, {"epoch", state.epoch}, {"metrics", metrics}};
  return notes.dump(2, ' ', false, Json::error_handler_t::replace);
}

void refuse_foreign_storage(const std::string& output_uri) {
  for (const char* scheme : {"s3://", "gs://", "azure://"})
    if (output_uri.starts_with(scheme)) model_store(output_uri, ClearmlSettings{});  // throws
}

// Settings that cannot be used are no trouble where they are not needed.
ClearmlAccess offline_access(const std::string& why_not) {
  ClearmlAccess access{.settings = {}, .agent_task = {}, .why_not = why_not, .offline = {}};
  try {
    if (ClearmlSettings settings = clearml_settings(clearml_sources(true)); settings.configured())
      access.offline = std::move(settings);
  } catch (const Error&) {
  }
  return access;
}

}  // namespace

ClearmlAccess clearml_access(bool offline) {
  if (offline) return offline_access("");
  if (is_on(clearml_sources(true).environment, "CLEARML_OFFLINE_MODE"))
    return offline_access("CLEARML_OFFLINE_MODE is set: as with --offline");
  const ClearmlSources sources = clearml_sources();
  ClearmlSettings settings = clearml_settings(sources);
  if (!settings.configured())
    return offline_access("no ClearML configured: the run is recorded in its folder only, as with --offline");
  const auto agent = sources.environment.find("CLEARML_TASK_ID");
  return {.settings = std::move(settings),
          .agent_task = agent == sources.environment.end() ? "" : agent->second,
          .why_not = {},
          .offline = {}};
}

std::vector<std::string> edited_values(const ClearmlAccess& access) {
  if (access.agent_task.empty()) return {};
  if (!is_task_id(access.agent_task))
    throw ConfigError(
        "CLEARML_TASK_ID = ", Json(access.agent_task).dump(-1, ' ', false, Json::error_handler_t::replace),
        " is no task's id; an agent sets it by itself, so unset it where you start the run");
  ClearmlApi api(*access.settings, api_options());
  const ApiAnswer answer =
      api.call("tasks.get_by_id", Json{{"task", access.agent_task}}.dump(), {.deadline = for_the_agent});
  if (!answer.ok())
    throw Unavailable("the task of CLEARML_TASK_ID = ", quoted(access.agent_task),
                      " cannot be read: ", in_words(*answer.error));
  std::vector<std::string> values;
  const Json data = Json::parse(answer.data, nullptr, false);
  const Json::json_pointer place("/task/hyperparams/hparams");
  if (!data.contains(place) || !data.at(place).is_object()) return values;
  for (const auto& [name, item] : data.at(place).items()) {
    if (!item.is_object() || !item.contains("value") || !item["value"].is_string()) continue;
    std::string key = name;
    std::ranges::replace(key, '/', '.');
    const bool typed = item.contains("type") && item["type"].is_string();
    const std::string type = typed ? item["type"].get<std::string>() : "";
    if (const auto toml = toml_of_parameter(item["value"], type)) values.push_back(text(key, "=", *toml));
  }
  return values;
}

void fail_agent_task(const ClearmlAccess& access, const std::string& error) noexcept {
  if (!access.settings || !is_task_id(access.agent_task)) return;
  try {
    const Json body = {{"task", access.agent_task},
                       {"force", true},
                       {"status_reason", "the run did not begin"},
                       {"status_message", error}};
    ClearmlApi(*access.settings, api_options())
        .call("tasks.failed", body.dump(-1, ' ', false, Json::error_handler_t::replace),
              {.deadline = for_the_last_word});
  } catch (const std::exception&) {  // the error itself is said anyway
  }
}

Tracking::Tracking(const Session& session, const RunConfig& config, const ClearmlAccess& access)
    : session_(session), config_(config), log_(session.log), access_(access) {
  if (access_.settings && !is_project_name(config.task.project_name))
    throw ConfigError("task.project_name = ", quoted(config.task.project_name),
                      ": ClearML takes names of at least 3 characters; choose a longer one");
  if (access_.settings)
    model_store(config.task.output_uri, *access_.settings);
  else
    refuse_foreign_storage(config.task.output_uri);
  if (!access_.why_not.empty()) log_.info(access_.why_not);
  if (config.task.required && !access_.settings)
    throw Unavailable(
        "task.required = true, but ", session.line.offline ? "--offline was given" : access_.why_not,
        "; point lab at a server (~/clearml.conf), or take it out to record the run in its folder");
}

Tracking::~Tracking() { log_.end_sink(); }

Tracking::Name Tracking::name_new_run(const RunNames& names) {
  description_ = describe(names);
  if (!access_.settings) return {task_name(names, "offline"), ""};
  ClearmlApi api(*access_.settings, api_options());
  claim_.adopted = !access_.agent_task.empty();
  const RegisteredTask made = claim_.adopted
                                  ? adopt_task(api, access_.agent_task, *description_, for_the_agent)
                                  : register_task(api, *description_, for_the_name);
  claim_.task = made.task;
  if (!made.warning.empty()) log_.warn(made.warning);
  if (made.task) {
    const std::string page = results_page(*access_.settings, *made.task);
    log_.info("ClearML task ", made.task->name, page.empty() ? "" : ", results page: ", page);
    return {folder_name(made.task->name), made.task->id};
  }
  if (config_.task.required || claim_.adopted)
    throw Unavailable(claim_.adopted ? "CLEARML_TASK_ID names a task" : "task.required = true",
                      ", but ClearML cannot be had: ", in_words(*made.error));
  log_.warn(in_words(*made.error), "; the run goes on as pending and gets its task when the server answers");
  return {task_name(names, "pending"), ""};
}

TaskDescription Tracking::describe(const RunNames& names) const {
  return task_description(config_, names, session_.argv);
}

std::shared_ptr<Spool> Tracking::open(const RunFolder& folder, const RunNames& names,
                                      const std::string& name) {
  folder_ = folder.path();
  name_ = name;
  spool_ = std::make_shared<Spool>(folder_, log_);
  if (!spool_->has_task()) spool_->task(description_ ? *description_ : describe(names));
  log_.also_to(folder.file("log.txt"), [spool = spool_](const std::string& level, const std::string& line) {
    spool->console(level, line);
  });
  spool_->status("in_progress", "", "");
  if (config_.task.auto_resource_monitoring) monitor_ = std::make_unique<MachineMonitor>(*spool_, folder_);
  if (access_.settings) {
    const bool is_pending = description_ && !claim_.task;
    sender_ = std::make_unique<ClearmlSender>(folder_, *access_.settings, log_, api_options());
    if (claim_.task || claim_.adopted) sender_->claim(claim_);
    thread_ = std::make_unique<ClearmlThread>(*sender_, log_, is_pending, [this] { stop_for_abort(); });
  }
  return spool_;
}

void Tracking::stop_for_abort() {
  aborted_ = true;
  log_.warn("the task was aborted on the ClearML server: the run saves and stops");
}

void Tracking::saved(const RunState& state) {
  if (!spool_) return;
  const std::string checkpoints =
      std::filesystem::absolute(folder_ + "/checkpoints").lexically_normal().string();
  const std::string notes = model_notes(state);
  spool_->model("last", checkpoints + "/last.safetensors", state.step, notes);
  if (state.best && state.best->step == state.step)
    spool_->model("best", checkpoints + "/best.safetensors", state.step, notes);
}

void Tracking::end(const std::string& status, const std::string& reason, const std::string& message,
                   milliseconds most) {
  if (!spool_ || ended_.exchange(true)) return;
  monitor_.reset();
  log_.end_sink();
  spool_->status(status, reason, message);
  if (!thread_) return write_session();
  const bool all = thread_->finish(most);
  if (const std::string words = sender_->refusals(); !words.empty()) log_.warn(words);
  if (all) return;
  log_.warn("not yet on the ClearML server: ", sender_->left(), "; send it with: lab_sync ", folder_);
}

void Tracking::write_session() const {
  // Who never spoke of ClearML need not hear of what a session lacks.
  const Log said = session_.line.offline ? log_ : Log::silent();
  try {
    const std::string session = write_offline_session(folder_, name_, access_.offline, said);
    said.info("for Task.import_offline_session:");
    said.info("  ", session);
  } catch (const Error& e) {  // the spool has it all: lab_sync --offline can do it again
    log_.warn(e.what());
  }
}

std::optional<TaskIdentity> Tracking::task() const { return sender_ ? sender_->task() : claim_.task; }

}  // namespace lab
