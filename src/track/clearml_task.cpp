#include "lab/track/clearml_task.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>

#include "lab/core/text.h"
#include "lab/core/version.h"
#include "track/asked.h"
#include "track/task_content.h"

namespace lab {
namespace {

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr int most_rivals = 50;  // rounds in which others were a moment earlier
constexpr size_t page_size = 500;
constexpr int unknown_task = 101;  // subcode; of a parent too

// For Python's regular expressions.
std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) || c == '_' || (c & 0x80);
    out += plain ? "" : "\\";
    out += c;
  }
  return out;
}

// The N of STEM_vN, or nothing.
std::optional<int64_t> version_of(const std::string& stem, const std::string& name) {
  const std::string prefix = stem + "_v";
  if (!name.starts_with(prefix)) return std::nullopt;
  int64_t number = 0;
  const char *begin = name.data() + prefix.size(), *end = name.data() + name.size();
  const auto [last, problem] = std::from_chars(begin, end, number);
  if (begin == end || *begin == '-' || last != end || problem != std::errc()) return std::nullopt;
  return number;
}

struct Row {
  std::string id, name, created;
};

std::string text_of(const Json& row, const char* key) {
  if (!row.is_object()) return "";
  const auto found = row.find(key);
  return found != row.end() && found->is_string() ? found->get<std::string>() : "";
}

// The task as tasks.edit takes it.
Json described(const std::string& id, const TaskDescription& task) {
  Json body = detail::content_of(task);
  body["task"] = id;
  body["force"] = true;
  if (!task.tags.empty()) body["tags"] = task.tags;
  return body;
}

// The calls that registering takes. Each throws ApiError when it does not succeed in time.
class Registrar {
 public:
  Registrar(ClearmlApi& api, const TaskDescription& task, std::chrono::milliseconds deadline)
      : api_(api), task_(task), end_(Clock::now() + deadline) {}

  const std::string& warning() const { return warning_; }

  TaskIdentity run() {
    TaskIdentity identity{.id = {}, .name = {}, .project_id = project(), .project = task_.project};
    for (int round = 0; round < most_rivals && identity.id.empty(); ++round) {
      auto mine = made_earlier(identity.project_id);
      if (!mine) {
        std::vector<std::string> names;
        for (const Row& row : versions(identity.project_id)) names.push_back(row.name);
        create(identity.project_id, text(task_.stem, "_v", next_version(task_.stem, names)));
        mine = made_earlier(identity.project_id);
        if (!mine) throw ApiError{.message = "the server does not show the task that it has just made"};
      }
      if (was_first(identity.project_id, *mine)) {
        identity.id = mine->id;
        identity.name = mine->name;
      } else {
        call("tasks.delete", {{"task", mine->id}, {"force", true}});
      }
    }
    if (identity.id.empty()) throw ApiError{.message = "too many runs of this name start at once"};
    call("tasks.edit", described(identity.id, task_));
    return identity;
  }

 private:
  Json call(const std::string& action, const Json& body) { return detail::asked(api_, action, body, end_); }

  static std::vector<Row> rows_of(const Json& data, const char* table) {
    std::vector<Row> rows;
    const auto found = data.is_object() ? data.find(table) : data.end();
    if (data.is_object() && found != data.end() && found->is_array())
      for (const Json& row : *found)
        rows.push_back({text_of(row, "id"), text_of(row, "name"), text_of(row, "created")});
    return rows;
  }

  std::string project() {
    const auto find = [&] {
      const auto found = rows_of(call("projects.get_all", {{"name", "^" + escaped(task_.project) + "$"},
                                                           {"only_fields", {"id"}},
                                                           {"search_hidden", true}}),
                                 "projects");
      return found.empty() ? "" : found.front().id;
    };
    if (const std::string id = find(); !id.empty()) return id;
    try {
      return text_of(call("projects.create", {{"name", task_.project}, {"description", ""}}), "id");
    } catch (const ApiError& error) {
      const std::string id = find();  // another run may have been faster
      if (id.empty()) throw;
      return id;
    }
  }

  std::vector<Row> tasks(const std::string& project, const Json& filter) {
    std::vector<Row> all;
    for (int64_t page = 0;; ++page) {
      Json body = {{"project", {project}},   {"only_fields", {"id", "name", "created"}},
                   {"search_hidden", true},  {"order_by", {"created", "id"}},
                   {"page_size", page_size}, {"page", page}};
      body.update(filter);
      const auto rows = rows_of(call("tasks.get_all", body), "tasks");
      all.insert(all.end(), rows.begin(), rows.end());
      if (rows.size() < page_size) return all;
    }
  }

  std::vector<Row> versions(const std::string& project) {
    return tasks(project, {{"name", "^" + escaped(task_.stem) + "_v[0-9]+$"}});
  }

  std::optional<Row> made_earlier(const std::string& project) {
    const auto found = tasks(project, {{"_any_", {{"fields", {"comment"}}, {"pattern", task_.token}}}});
    return found.empty() ? std::nullopt : std::optional(found.front());
  }

  // Of tasks with one name the earliest keeps it. Who looks after having made its own sees all earlier ones.
  bool was_first(const std::string& project, const Row& mine) {
    return std::ranges::none_of(versions(project), [&](const Row& other) {
      return other.name == mine.name && std::pair(other.created, other.id) < std::pair(mine.created, mine.id);
    });
  }

  void create(const std::string& project, const std::string& name) {
    Json body = {{"name", name},
                 {"type", task_.type},
                 {"project", project},
                 {"system_tags", {"development"}},
                 {"comment", text("lab ", version, ", run ", task_.token)}};
    if (!task_.parent.empty()) body["parent"] = task_.parent;
    try {
      call("tasks.create", body);
    } catch (const ApiError& error) {
      if (error.result_subcode != unknown_task || body.erase("parent") == 0) throw;
      call("tasks.create", body);
      warning_ = text("the ClearML server does not know the task ", quoted(task_.parent),
                      " (any more): this run's task is made without a parent");
    }
  }

  ClearmlApi& api_;
  const TaskDescription& task_;
  std::string warning_;
  Clock::time_point end_;
};

// The calls that adopting takes. Each throws ApiError when it does not succeed in time. What others have put
// on the task stays: its script, its tags, the other sections and configuration objects.
class Adopter {
 public:
  Adopter(ClearmlApi& api, std::string id, Clock::time_point end)
      : api_(api), id_(std::move(id)), end_(end) {}

  TaskIdentity run(const TaskDescription& task) {
    const Json row = member(call("tasks.get_by_id", Json::object()), "task");
    const Json content = detail::content_of(task);
    edit("tasks.edit_hyper_params",
         {{"replace_hyperparams", "section"}, {"hyperparams", items(content["hyperparams"]["hparams"])}});
    edit("tasks.edit_configuration",
         {{"replace_configuration", false}, {"configuration", items(content["configuration"])}});
    add_tags(member(row, "tags"), task.tags);
    const std::string project_id = text_of(row, "project");
    return {id_, text_of(row, "name"), project_id, project_id.empty() ? task.project : project(project_id)};
  }

 private:
  Json call(const std::string& action, const Json& more) {
    Json body = {{"task", id_}};
    body.update(more);
    return detail::asked(api_, action, body, end_);
  }
  void edit(const std::string& action, Json what) {
    what["force"] = true;  // an agent's task is queued or runs already
    call(action, what);
  }

  static Json member(const Json& object, const char* name) {
    return object.is_object() && object.contains(name) ? object[name] : Json();
  }
  static Json items(const Json& object) {
    Json list = Json::array();
    for (const auto& entry : object.items()) list.push_back(entry.value());
    return list;
  }

  void add_tags(Json tags, const std::vector<std::string>& ours) {
    if (!tags.is_array()) tags = Json::array();
    const size_t before = tags.size();
    for (const std::string& tag : ours)
      if (std::ranges::find(tags, Json(tag)) == tags.end()) tags.push_back(tag);
    if (tags.size() > before) edit("tasks.edit", {{"tags", tags}});
  }

  std::string project(const std::string& id) {
    const Json found = detail::asked(api_, "projects.get_by_id", {{"project", id}}, end_);
    return text_of(member(found, "project"), "name");
  }

  ClearmlApi& api_;
  std::string id_;
  Clock::time_point end_;
};

}  // namespace

int64_t next_version(const std::string& stem, const std::vector<std::string>& names) {
  int64_t next = 0;
  for (const auto& name : names)
    if (const auto number = version_of(stem, name)) next = std::max(next, *number + 1);
  return next;
}

RegisteredTask register_task(ClearmlApi& api, const TaskDescription& task,
                             std::chrono::milliseconds deadline) {
  try {
    Registrar registrar(api, task, deadline);
    TaskIdentity made = registrar.run();
    return {.task = std::move(made), .error = {}, .warning = registrar.warning()};
  } catch (const ApiError& error) {
    return {.task = {}, .error = error};
  }
}

RegisteredTask adopt_task(ClearmlApi& api, const std::string& id, const TaskDescription& task,
                          std::chrono::milliseconds deadline) {
  try {
    return {.task = Adopter(api, id, Clock::now() + deadline).run(task), .error = {}};
  } catch (const ApiError& error) {
    return {.task = {}, .error = error};
  }
}

bool is_task_id(std::string_view text) {
  return !text.empty() && text.size() <= 64 && std::ranges::all_of(text, [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '_';
  });
}

bool is_project_name(const std::string& text) {
  const std::string around = " \t\r\n\v\f/";
  const size_t begin = text.find_first_not_of(around);
  if (begin == std::string::npos) return false;
  const std::string inner = text.substr(begin, text.find_last_not_of(around) + 1 - begin);
  return std::ranges::count_if(inner, [](char c) { return (c & 0xc0) != 0x80; }) >= 3;  // of UTF-8
}

std::string in_words(const ApiError& error) {
  const bool refused = error.http_code == 401 || error.http_code == 403;
  return text(error.message,
              refused ? "; check the credentials in ~/clearml.conf or CLEARML_API_ACCESS_KEY" : "");
}

std::string results_page(const ClearmlSettings& settings, const TaskIdentity& task) {
  if (settings.web_host.empty()) return "";
  return text(settings.web_host, "/projects/", task.project_id, "/tasks/", task.id, "/output/log");
}

}  // namespace lab
