#include "track/model_upload.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <system_error>
#include <vector>

#include "lab/core/error.h"
#include "lab/core/utf8.h"
#include "lab/track/url.h"
#include "track/asked.h"
#include "track/model_cache.h"

namespace lab {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;

// Then it is for the caller to say that it goes wrong, and to begin anew.
constexpr int tries = 4;
constexpr std::chrono::seconds for_calls{60};

// What ClearML's SDK leaves as it is in the names of folders.
const std::string name_characters = "'[]{}()$^,; +=/";

// A folder has room for 255 bytes in its name: with '.' and a task's id behind it for so many.
constexpr size_t most_folder_name = 222;

// One name as ClearML's SDK writes it in a path; but none that leads elsewhere, or is longer than file
// systems take.
std::string folder_name(const std::string& name) {
  if (name == "." || name == "..") return "_" + name.substr(1);
  for (size_t most = most_folder_name;; --most) {
    std::string encoded = percent_encoded(utf8_prefix(name, most), name_characters);
    if (encoded.size() <= most_folder_name) return encoded;
  }
}

// A '/' in the names of projects and tasks makes a folder below another.
std::string folder_names(const std::string& names) {
  std::string out;
  for (size_t from = 0;;) {
    const size_t slash = names.find('/', from);
    out += folder_name(names.substr(from, slash - from));
    if (slash == std::string::npos) return out;
    out += '/';
    from = slash + 1;
  }
}

// A second name of the file, so that it stays what it is while the run replaces it.
class Held {
 public:
  explicit Held(const std::string& file)
      : path_((fs::path(file).parent_path() / (".tmp-sending-" + fs::path(file).filename().string()))
                  .string()) {
    std::error_code problem;
    fs::remove(path_, problem);
    fs::create_hard_link(file, path_, problem);
    if (problem) fs::copy_file(file, path_, problem);
    if (problem) throw IoError("cannot take a copy of ", file, " to send it to ClearML: ", problem.message());
  }
  ~Held() {
    std::error_code ignored;
    fs::remove(path_, ignored);
  }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Piece by piece, as a slow disk must not keep a run from its end. False: it was called off.
bool copy_bytes(const std::string& from, const std::string& to, const std::function<bool()>& called_off) {
  std::ifstream in(from, std::ios::binary);
  std::ofstream out(to, std::ios::binary | std::ios::trunc);
  std::vector<char> piece(size_t{1} << 20);
  for (bool more = true; more && in && out;) {
    if (called_off()) return false;
    in.read(piece.data(), std::ssize(piece));
    more = in.gcount() == std::ssize(piece);
    out.write(piece.data(), in.gcount());
  }
  out.close();
  if (!out || in.bad() || !in.is_open())
    throw std::system_error(errno != 0 ? errno : EIO, std::generic_category());
  return true;
}

// Into place as a whole, or not at all. False: it was called off.
bool copy_whole(const std::string& from, const std::string& to, const std::function<bool()>& called_off) {
  const std::string temporary = to + ".partial";
  std::error_code ignored;
  try {
    fs::create_directories(fs::path(to).parent_path());
    if (copy_bytes(from, temporary, called_off)) {
      fs::rename(temporary, to);
      return true;
    }
    fs::remove(temporary, ignored);
    return false;
  } catch (const std::system_error& e) {
    fs::remove(temporary, ignored);
    throw IoError("cannot copy ", from, " to ", to, ": ", e.code().message(),
                  "; check the rights and free space of task.output_uri");
  }
}

std::string file_uri(const std::string& path) {
  return "file://" + percent_encoded(fs::absolute(path).lexically_normal().string(), "/");
}

// The calls that a model takes. Each throws ApiError when it does not succeed in time.
class Publisher {
 public:
  Publisher(ClearmlApi& api, const TaskIdentity& task, Clock::time_point end,
            const std::function<bool()>& before_reopening)
      : api_(api), task_(task), end_(end), before_reopening_(before_reopening) {}

  void put(const std::string& slot, const detail::SpooledModel& model, const std::string& uri,
           const detail::FileSum& sum) {
    const std::string id = found_or_made(task_.name + " - " + slot, uri);
    say_sum(id, sum);  // first, as the file is there already: who fetches it meanwhile compares it with this
    call("models.edit", {{"model", id},
                         {"uri", uri},
                         {"iteration", model.iteration},
                         {"framework", "PyTorch"},
                         {"design", {{"design", model.design}}}});
    const Json entry = {{"task", task_.id},
                        {"name", slot},
                        {"model", id},
                        {"type", "output"},
                        {"iteration", model.iteration}};
    try {
      call("tasks.add_or_update_model", entry);
    } catch (const ApiError& error) {
      if (error.result_subcode != detail::not_in_this_status || !before_reopening_()) throw;
      call("tasks.started", {{"task", task_.id}, {"force", true}});
      call("tasks.add_or_update_model", entry);
    }
  }

 private:
  Json call(const std::string& action, const Json& body) { return detail::asked(api_, action, body, end_); }

  // A server that does not take it has the model nonetheless.
  void say_sum(const std::string& model_id, const detail::FileSum& sum) {
    const Json size = {{"key", "lab.size"}, {"type", "int"}, {"value", std::to_string(sum.bytes)}};
    const Json checksum = {{"key", "lab.xxh3"}, {"type", "str"}, {"value", sum.checksum}};
    try {
      call("models.add_or_update_metadata",
           {{"model", model_id}, {"metadata", {size, checksum}}, {"replace_metadata", false}});
    } catch (const ApiError& error) {
      if (error.temporary) throw;
    }
  }

  std::string found_or_made(const std::string& name, const std::string& uri) {
    const Json found = call("models.get_all", {{"task", {task_.id}}, {"only_fields", {"id", "name"}}});
    if (found.is_object() && found.contains("models") && found["models"].is_array())
      for (const Json& row : found["models"])
        if (row.is_object() && row.value("name", "") == name) return row.value("id", "");
    const Json made = call("models.create", {{"name", name},
                                             {"uri", uri},
                                             {"project", task_.project_id},
                                             {"task", task_.id},
                                             {"framework", "PyTorch"},
                                             {"labels", Json::object()},
                                             {"tags", Json::array()},
                                             {"comment", ""},
                                             {"ready", false}});
    return made.at("id").get<std::string>();
  }

  ClearmlApi& api_;
  const TaskIdentity& task_;
  Clock::time_point end_;
  const std::function<bool()>& before_reopening_;
};

}  // namespace

ModelStore model_store(const std::string& output_uri, const ClearmlSettings& settings) {
  const auto known = [&](const std::string& uri) -> std::optional<ModelStore> {
    if (uri == "false") return ModelStore{ModelStore::Kind::in_place, ""};
    if (!settings.files_host.empty() && is_below(uri, settings.files_host)) return ModelStore{};
    if (uri.starts_with("file://")) return ModelStore{ModelStore::Kind::folder, uri.substr(7)};
    if (uri.find("://") == std::string::npos) return ModelStore{ModelStore::Kind::folder, uri};
    return std::nullopt;
  };
  const bool by_default = output_uri.empty() || output_uri == "true";
  const std::string& uri = by_default ? settings.default_output_uri : output_uri;
  if (uri.empty() || uri == "true")
    return {settings.files_host.empty() ? ModelStore::Kind::in_place : ModelStore::Kind::file_server, ""};
  if (const auto store = known(uri)) return *store;
  throw ConfigError(
      by_default ? "ClearML's default_output_uri" : "task.output_uri", " = ", quoted(uri),
      ": models go to ClearML's file server (\"\"), to a folder (a path or file://), or stay in "
      "the run folder (\"false\"); other storage is not supported");
}

namespace detail {

ModelPlace model_place(const ModelStore& store, const ClearmlSettings& settings, const TaskIdentity& task,
                       const std::string& slot, const std::string& file) {
  if (store.kind == ModelStore::Kind::in_place) return {"", file_uri(file), ""};
  const std::string name = folder_names(utf8_prefix(task.name, 95));
  const std::string below = text("/", folder_names(task.project), "/", name, ".", task.id, "/models/", slot,
                                 fs::path(file).extension().string());
  if (store.kind == ModelStore::Kind::file_server)
    return {below, settings.files_host + percent_encoded(below, "/"), ""};
  const std::string path = store.folder + below;
  return {"", file_uri(path), path};
}

std::optional<ApiError> publish_model(ClearmlApi& api, const ModelStore& store,
                                      const ClearmlSettings& settings, const TaskIdentity& task,
                                      const std::string& slot, const SpooledModel& model,
                                      std::chrono::milliseconds deadline,
                                      const std::function<bool()>& before_reopening) {
  const auto end = Clock::now() + deadline;
  std::error_code ignored;
  if (!fs::exists(model.file, ignored))
    return ApiError{.failure = HttpFailure::bad_url, .message = model.file + " is not there any more"};
  try {
    const Held held(model.file);
    const auto called_off = [&] { return api.cancelled() || Clock::now() > end; };
    const auto sum = sum_of(held.path(), called_off);
    if (!sum) throw IoError(held.path(), " was not read to its end, to send it to ClearML");
    const ModelPlace place = model_place(store, settings, task, slot, model.file);
    if (!place.path.empty() && !copy_whole(held.path(), place.path, called_off))
      return ApiError{.failure = HttpFailure::cancelled, .temporary = true};
    if (!place.storage_path.empty()) {
      const ApiAnswer sent =
          api.upload(place.storage_path, held.path(), {.deadline = deadline, .tries = tries});
      if (!sent.ok()) return sent.error;
    }
    Publisher(api, task, std::min(end, Clock::now() + for_calls), before_reopening)
        .put(slot, model, place.uri, *sum);
    return std::nullopt;
  } catch (const ApiError& error) {
    return error;
  } catch (const std::exception& e) {  // a folder that is full or away, an answer that makes no sense
    return ApiError{.failure = HttpFailure::file, .message = e.what(), .temporary = true};
  }
}

}  // namespace detail
}  // namespace lab
