#include "lab/track/clearml_fetch.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>
#include <vector>

#include "lab/core/error.h"
#include "lab/track/url.h"
#include "track/model_cache.h"

namespace lab {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using detail::CachePlace;
using detail::FileSum;

constexpr const char* what_else =
    "; or give a local file: trainer.fit.ckpt_path for lab_train, its path for lab_infer";

// The server cannot be reached; everything else that goes wrong is thrown as what it is.
struct Unreachable {
  std::string why;
};

struct OnServer {
  std::string task_name;
  std::string model_id, uri = {}, last_update = {};
  std::string bytes = {}, checksum = {};  // as lab wrote them beside the model; "": it did not
};

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

std::string named(const ModelOfTask& model) {
  return text("the model ", quoted(model.name), " of the task ", model.task_id);
}

void check_id(const std::string& id) {
  const bool plain = !id.empty() && id.size() <= 64 && std::ranges::all_of(id, [](unsigned char c) {
    return c < 0x80 && (std::isalnum(c) || c == '_');
  });
  if (!plain)
    throw InputNotFound("there is no ClearML task ", quoted(id.substr(0, 100)),
                        ": an id is 32 letters and digits, as the address of the task's page ends");
}

const Json& member(const Json& object, const char* name) {
  static const Json nothing;
  const auto found = object.is_object() ? object.find(name) : object.end();
  return object.is_object() && found != object.end() ? *found : nothing;
}

std::string text_of(const Json& object, const char* name) {
  const Json& value = member(object, name);
  return value.is_string() ? value.get<std::string>() : "";
}

// What the last word of the server comes to.
[[noreturn]] void refuse(const ApiError& error, const std::string& what) {
  if (error.http_code == 401 || error.http_code == 403)
    throw ConfigError("no rights to ", what, ": ", error.message,
                      "; check CLEARML_API_ACCESS_KEY and CLEARML_API_SECRET_KEY or ~/clearml.conf, and that "
                      "their user may see the task",
                      what_else);
  if (error.failure == HttpFailure::file)
    throw IoError("cannot keep ", what, ": ", error.message,
                  "; check rights and free space, or choose another place with "
                  "trainer.init.default_root_dir");
  if (error.failure != HttpFailure::none || error.temporary) throw Unreachable{error.message};
  throw InputNotFound("there is no ", what, " for these credentials: ", error.message,
                      "; check the id and the server, and whether it was deleted", what_else);
}

Json asked(ClearmlApi& api, const std::string& action, const Json& question, const std::string& what,
           std::chrono::milliseconds deadline) {
  const ApiAnswer answer = api.call(action, question.dump(), {.deadline = deadline});
  if (!answer.ok()) refuse(*answer.error, what);
  return Json::parse(answer.data, nullptr, false);
}

// The id of the model in the task's output slot of that name.
std::string id_in_slot(const Json& task, const ModelOfTask& wanted) {
  constexpr size_t most_named = 20;
  std::vector<std::string> there;
  size_t more = 0;
  const Json& slots = member(member(task, "models"), "output");
  if (slots.is_array())
    for (const Json& slot : slots) {
      const std::string name = text_of(slot, "name");
      if (name == wanted.name && !text_of(slot, "model").empty()) return text_of(slot, "model");
      if (there.size() < most_named)
        there.push_back(quoted(name.substr(0, 100)));
      else
        ++more;
    }
  throw InputNotFound("the task ", wanted.task_id, " (", quoted(text_of(task, "name").substr(0, 200)),
                      ") has no output model ", quoted(wanted.name),
                      there.empty()
                          ? "; it has none at all: was a model uploaded?"
                          : text("; it has ", join(there), more == 0 ? "" : text(" and ", more, " more"),
                                 ": name one of them"));
}

std::string metadata_of(const Json& model, const char* key) {
  return text_of(member(member(model, "metadata"), key), "value");
}

OnServer look_up(ClearmlApi& api, const ModelOfTask& wanted, std::chrono::milliseconds deadline) {
  const Json task = member(
      asked(api, "tasks.get_by_id", {{"task", wanted.task_id}}, "task " + wanted.task_id, deadline), "task");
  OnServer found{.task_name = text_of(task, "name"), .model_id = id_in_slot(task, wanted)};
  const Json model = member(asked(api, "models.get_by_id", {{"model", found.model_id}},
                                  text("model ", quoted(found.model_id), ", ", quoted(wanted.name),
                                       " of the task ", wanted.task_id, ","),
                                  deadline),
                            "model");
  found.uri = text_of(model, "uri");
  found.last_update = text_of(model, "last_update");
  found.bytes = metadata_of(model, "lab.size");
  found.checksum = metadata_of(model, "lab.xxh3");
  const std::string end = found.uri.substr(found.uri.rfind('/') + 1);
  if (found.uri.empty() || end == "uploading_file" || end == "failed_uploading")
    throw InputNotFound(named(wanted), " has no file: its upload has not ended, or failed (",
                        quoted(found.uri.substr(0, 200)), "); take another of the task's models", what_else);
  if (std::ranges::any_of(found.uri, is_control))
    throw DataError(named(wanted), " is said to lie at ", quoted(found.uri.substr(0, 200)),
                    ", which is no address: it holds control characters", what_else);
  return found;
}

std::string without_percents(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool code = text[i] == '%' && i + 2 < text.size() &&
                      std::isxdigit(static_cast<unsigned char>(text[i + 1])) &&
                      std::isxdigit(static_cast<unsigned char>(text[i + 2]));
    out += code ? static_cast<char>(std::stoi(text.substr(i + 1, 2), nullptr, 16)) : text[i];
    i += code ? 2 : 0;
  }
  return out;
}

// The file of this machine that an address means, "" where it means none: its name may be encoded or not.
std::string local_path(const std::string& uri) {
  if (uri.starts_with('/')) return uri;
  for (const char* start : {"file:///", "file://localhost/"}) {
    if (!uri.starts_with(start)) continue;
    const std::string plain = uri.substr(std::string(start).size() - 1), decoded = without_percents(plain);
    std::error_code absent;
    const bool clean = std::ranges::none_of(decoded, is_control);
    return clean && fs::exists(decoded, absent) ? decoded : plain;
  }
  return "";
}

bool is_download(const std::string& uri) { return uri.starts_with("http://") || uri.starts_with("https://"); }

void copy(const std::string& from, const std::string& to, const ModelOfTask& wanted) {
  std::error_code problem;
  if (!fs::is_regular_file(from, problem))
    throw InputNotFound(named(wanted), " was left in the file ", quoted(from),
                        ", which is not there on this machine: start where it is, or upload it", what_else);
  fs::copy_file(from, to, fs::copy_options::overwrite_existing, problem);
  if (problem)
    throw IoError("cannot copy ", named(wanted), " from ", quoted(from), " to ", to, ": ", problem.message(),
                  "; check rights and free space");
}

void download(const ClearmlSettings& settings, const FetchOptions& options, const std::string& uri,
              const std::string& to, const ModelOfTask& wanted) {
  ApiOptions limits = options.api;
  limits.limits.total = options.file;
  limits.limits.answer_bytes = INT64_MAX;
  ClearmlApi api(settings, limits);
  // Some clients store addresses with blanks and other letters as they are.
  const std::string encoded = percent_encoded(uri, ":/?#[]@!$&'()*+,;=%");
  const ApiAnswer answer = api.download(encoded, to, {.deadline = options.file});
  if (answer.ok()) return;
  if (answer.error->http_code == 404 || answer.error->http_code == 410)
    throw InputNotFound("the file of ", named(wanted), " is gone from ", encoded,
                        ": take another of the task's models", what_else);
  try {
    refuse(*answer.error, "file of " + named(wanted));
  } catch (const Unreachable& e) {
    throw Unavailable("cannot fetch ", named(wanted), " from ", encoded, ": ", e.why,
                      "; start again once it can be reached", what_else);
  }
}

// How a file differs from what was uploaded; "": not at all, or the uploader did not say what that was.
std::string difference(const FileSum& file, const OnServer& uploaded) {
  const std::string bytes = std::to_string(file.bytes);
  if (!uploaded.bytes.empty() && uploaded.bytes != bytes)
    return text("has ", bytes, " bytes, ", uploaded.bytes.substr(0, 100), " were uploaded");
  if (!uploaded.checksum.empty() && uploaded.checksum != file.checksum)
    return text("has the checksum ", file.checksum, ", what was uploaded had ",
                uploaded.checksum.substr(0, 100), " (XXH3-64)");
  return "";
}

// Puts the file into its place, if it is what was uploaded; else returns how it differs.
std::string fetch(const ClearmlSettings& settings, const FetchOptions& options, const ModelOfTask& wanted,
                  const OnServer& model, const CachePlace& place) {
  const std::string from = local_path(model.uri), temporary = place.prepare();
  try {
    if (from.empty())
      download(settings, options, model.uri, temporary, wanted);
    else
      copy(from, temporary, wanted);
    const auto sum = detail::sum_of(temporary);
    if (!sum) throw IoError("cannot read back ", temporary, "; is the disk sound?");
    // A file left in place may have gone on since it was registered.
    const std::string differs = from.empty() ? difference(*sum, model) : "";
    if (differs.empty())
      place.keep(temporary, {model.task_name, model.model_id, model.uri, model.last_update, *sum});
    unlink(temporary.c_str());
    return differs;
  } catch (...) {
    unlink(temporary.c_str());
    throw;
  }
}

bool is_kept(const CachePlace& place, const OnServer& model) {
  const auto kept = place.whole();
  if (!kept || kept->model_id != model.model_id || kept->uri != model.uri) return false;
  std::error_code absent;
  const std::string from = local_path(model.uri);
  return difference(kept->sum, model).empty() && !model.last_update.empty() &&
         kept->last_update == model.last_update && (from.empty() || !fs::exists(from, absent));
}

FetchedModel fetch_known(const ClearmlSettings& settings, const ModelOfTask& wanted,
                         const FetchOptions& options, const Log& log) {
  ClearmlApi api(settings, options.api);
  std::string differs;
  constexpr int tries = 3;  // a task that still trains may put a newer file there meanwhile
  for (int i = 0; i < tries; ++i) {
    const OnServer model = look_up(api, wanted, options.answer);
    if (!is_download(model.uri) && local_path(model.uri).empty())
      throw Unavailable(
          named(wanted), " lies at ", quoted(model.uri.substr(0, 200)),
          ", which lab does not fetch from: it takes http, https and file:// with a whole path; "
          "fetch it with another program",
          what_else);
    const CachePlace place(options.root, wanted, model.task_name, detail::weights_ending(model.uri));
    const FetchedModel found{place.path(), wanted.task_id, model.task_name};
    if (is_kept(place, model)) {
      log.info(named(wanted), " is as it was: using ", place.path());
      return found;
    }
    log.info("fetching ", named(wanted), " (", quoted(model.task_name.substr(0, 200)), ") from ",
             model.uri.substr(0, model.uri.find('?')));  // a signature may stand behind it
    differs = fetch(settings, options, wanted, model, place);
    if (differs.empty()) return found;
    if (i + 1 < tries) std::this_thread::sleep_for(std::chrono::seconds(1));
  }
  throw DataError(
      "the file of ", named(wanted), " ", differs,
      ": it is damaged, or its upload was broken off; upload it again (a run of lab: lab_sync and "
      "its folder), or take another of the task's models",
      what_else);
}

}  // namespace

std::optional<ModelOfTask> model_in(const std::string& words) {
  constexpr std::string_view start = "task:";
  if (!words.starts_with(start)) return std::nullopt;
  const size_t slash = words.find('/');
  ModelOfTask model{words.substr(start.size(), slash - start.size()), "last"};
  if (slash != std::string::npos) model.name = words.substr(slash + 1);
  if (model.task_id.empty() || model.name.empty())
    throw UsageError(quoted(words),
                     " names no model of a task; it is task:ID or task:ID/NAME, as in "
                     "task:0123456789abcdef0123456789abcdef/best");
  return model;
}

FetchedModel fetch_model(const ClearmlSettings& settings, const ModelOfTask& model,
                         const FetchOptions& options, const Log& log) {
  check_id(model.task_id);
  try {
    return fetch_known(settings, model, options, log);
  } catch (const Unreachable& e) {
    return kept_model(model, options.root, "the ClearML server cannot be reached: " + e.why, log);
  }
}

FetchedModel kept_model(const ModelOfTask& model, const std::string& root, const std::string& why,
                        const Log& log) {
  check_id(model.task_id);
  const auto place = CachePlace::newest(root, model);
  const auto kept = place ? place->whole() : std::nullopt;
  if (!kept)
    throw Unavailable(why, "; and ", named(model), " was not fetched to ", root,
                      " before: start where the server can be reached", what_else);
  log.warn(why, "; using ", place->path(), ", as it was fetched before");
  return {place->path(), model.task_id, kept->task_name};
}

void forget(const std::string& path) { unlink(detail::record_of(path).c_str()); }

}  // namespace lab
