#include "lab/track/clearml_settings.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string_view>

#include "lab/core/error.h"
#include "track/hocon.h"

namespace lab {
namespace {

using Environment = std::map<std::string, std::string>;
using detail::Hocon;

const std::string public_api = "https://api.clear.ml";
constexpr std::string_view blanks = " \t\r\n\f\v";

std::string trimmed(const std::string& from) {
  const size_t begin = from.find_first_not_of(blanks);
  return begin == std::string::npos ? "" : from.substr(begin, from.find_last_not_of(blanks) - begin + 1);
}

// CLEARML_NAME, or else TRAINS_NAME as it was once called. Empty counts as not set.
std::string variable(const Environment& environment, const std::string& name) {
  for (const auto* prefix : {"CLEARML_", "TRAINS_"})
    if (const auto found = environment.find(prefix + name); found != environment.end())
      if (const std::string value = trimmed(found->second); !value.empty()) return value;
  return "";
}

// "~" at the beginning, $NAME and ${NAME}; unknown names stay as they are.
std::string expanded(std::string path, const Environment& environment) {
  const auto home = environment.find("HOME");
  if (home != environment.end() && (path == "~" || path.starts_with("~/")))
    path = home->second + path.substr(1);
  for (size_t at = path.find('$'); at != std::string::npos; at = path.find('$', at)) {
    const bool braces = path.substr(at + 1, 1) == "{";
    const size_t begin = at + (braces ? 2 : 1);
    size_t end = begin;
    while (end < path.size() && (path[end] == '_' || std::isalnum(static_cast<unsigned char>(path[end]))))
      ++end;
    const auto found = environment.find(path.substr(begin, end - begin));
    if (found == environment.end() || (braces && path.substr(end, 1) != "}")) {
      at = begin;
      continue;
    }
    path.replace(at, end + (braces ? 1 : 0) - at, found->second);
    at += found->second.size();
  }
  return path;
}

// y yes t true on 1 / n no f false off 0, in any case; nothing for other texts.
std::optional<bool> truth(std::string value) {
  std::ranges::transform(value, value.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  constexpr std::array<std::string_view, 6> yes{"y", "yes", "t", "true", "on", "1"};
  constexpr std::array<std::string_view, 6> no{"n", "no", "f", "false", "off", "0"};
  if (std::ranges::find(yes, value) != yes.end()) return true;
  if (std::ranges::find(no, value) != no.end()) return false;
  return std::nullopt;
}

// The text of one key of the files; "" where it is absent, null or empty.
std::string written(const Hocon& files, const std::string& path) {
  const Hocon* found = files.find(path);
  if (!found || found->kind == Hocon::Kind::null) return "";
  if (found->kind != Hocon::Kind::text)
    throw ConfigError(found->place, ": ", path, " is a list or an object; it has to be a single value");
  return trimmed(found->text);
}

// One setting and the name of where it comes from.
struct Found {
  std::string value, origin;
};

class Search {
 public:
  Search(const Environment& environment, const Hocon& files) : environment_(environment), files_(files) {}

  Found operator()(const std::string& name, const std::string& path) const {
    if (const std::string value = variable(environment_, name); !value.empty())
      return {value, "CLEARML_" + name};
    if (path.empty()) return {};
    if (const std::string value = written(files_, path); !value.empty())
      return {value, files_.find(path)->place + ": " + path};
    return {};
  }

 private:
  const Environment& environment_;
  const Hocon& files_;
};

std::string host(Found from) {
  while (from.value.ends_with('/')) from.value.pop_back();
  if (from.value.empty()) return "";
  const bool http = from.value.starts_with("http://") || from.value.starts_with("https://");
  if (!http || from.value.find_first_of(blanks) != std::string::npos ||
      from.value.find('@') != std::string::npos)
    throw ConfigError(from.origin,
                      " is not the address of a server (it may hold a name and a password, so it is not "
                      "shown); write it as http://host:8008 or https://host");
  return from.value;
}

// Keys become part of a header, which ends at the end of a line.
Secret secret(const Found& from) {
  if (std::ranges::any_of(from.value, [](unsigned char c) { return c < 0x20 || c == 0x7f; }))
    throw ConfigError(from.origin,
                      " holds a line break or control character; copy it again from the web page");
  return Secret(from.value);
}

std::string replaced(std::string in, std::string_view what, std::string_view with) {
  const size_t at = in.find(what);
  return at == std::string::npos ? "" : in.replace(at, what.size(), with);
}

std::string web_of(const std::string& api) {
  if (api == public_api) return "https://app.clear.ml";
  for (const auto& [from, to] : {std::pair("://demoapi.", "://demoapp."), {"://api.", "://app."}})
    if (std::string web = replaced(api, from, to); !web.empty()) return web;
  const size_t path = std::min(api.find('/', api.find("://") + 3), api.size());
  if (api.substr(0, path).ends_with(":8008")) return replaced(api, ":8008", ":8080");
  return "";
}

std::string files_of(const std::string& api, const std::string& web) {
  if (api == public_api) return "https://files.clear.ml";
  if (web.empty()) return "";
  const size_t name = web.find("://") + 3;
  const size_t path = std::min(web.find('/', name), web.size());
  std::string server = web.substr(name, path - name);
  // An IPv6 address in brackets holds colons of its own.
  const size_t bracket = server.rfind(']');
  const size_t port = server.find(':', bracket == std::string::npos ? 0 : bracket);
  if (port != std::string::npos)
    server = server.substr(0, port) + ":8081";
  else if (server.starts_with("demoapp."))
    server.replace(0, 8, "demofiles.");
  else if (server.starts_with("app."))
    server.replace(0, 4, "files.");
  else
    server += ":8081";
  return web.substr(0, name) + server + web.substr(path);
}

void find_hosts(ClearmlSettings& settings, const Search& search) {
  settings.api_host = host(search("API_HOST", "api.api_server"));
  if (settings.api_host.empty()) settings.api_host = host(search("API_HOST", "api.host"));
  if (settings.api_host.empty()) settings.api_host = public_api;
  settings.web_host = host(search("WEB_HOST", "api.web_server"));
  if (settings.web_host.empty()) settings.web_host = web_of(settings.api_host);
  settings.files_host = host(search("FILES_HOST", "api.files_server"));
  if (settings.files_host.empty()) settings.files_host = files_of(settings.api_host, settings.web_host);
}

void find_credentials(ClearmlSettings& settings, const Search& search, const Environment& environment) {
  if (environment.contains("CLEARML_AUTH_TOKEN")) settings.token = secret(search("AUTH_TOKEN", ""));
  if (!settings.token.empty()) return;
  const Found key = search("API_ACCESS_KEY", "api.credentials.access_key");
  const Found hidden = search("API_SECRET_KEY", "api.credentials.secret_key");
  if (key.value.empty() && !hidden.value.empty())
    throw ConfigError(hidden.origin,
                      " is set, but the access key that belongs to it is not; set "
                      "CLEARML_API_ACCESS_KEY or api.credentials.access_key");
  if (hidden.value.empty() && !key.value.empty())
    throw ConfigError(key.origin,
                      " is set, but the secret key that belongs to it is not; set "
                      "CLEARML_API_SECRET_KEY or api.credentials.secret_key");
  if (key.value.find(':') != std::string::npos)
    throw ConfigError(key.origin,
                      " holds a colon, which no access key does; copy it again from the web page");
  settings.access_key = secret(key);
  settings.secret_key = secret(hidden);
}

// curl takes no HTTP_PROXY, as to a CGI script that would be a header of its client; the SDK does, but for
// such scripts.
std::string http_proxy(const Environment& environment) {
  const auto capitals = environment.find("HTTP_PROXY");
  const bool is_other = environment.contains("http_proxy") || environment.contains("REQUEST_METHOD");
  return capitals == environment.end() || is_other ? "" : capitals->second;
}

// As with ClearML's SDK: who has all keys in variables needs no file.
bool needs_files(const Environment& environment) {
  if (truth(variable(environment, "IGNORE_MISSING_CONFIG")).value_or(false)) return false;
  const bool keys =
      !variable(environment, "API_ACCESS_KEY").empty() && !variable(environment, "API_SECRET_KEY").empty();
  return !keys && variable(environment, "AUTH_TOKEN").empty();
}

// Nothing for a file that may be missing and is. Not only regular files: what a shell passes as <(command) is
// a pipe, which is not read where the server is not needed, as it might never end.
std::optional<std::string> read_if_there(const std::string& path, const Environment& environment,
                                         bool offline) {
  namespace fs = std::filesystem;
  std::error_code problem;
  const fs::file_status status = fs::status(path, problem);
  const bool named = !variable(environment, "CONFIG_FILE").empty();
  const bool there = fs::exists(status) && !fs::is_directory(status);
  if (offline && !fs::is_regular_file(status)) return std::nullopt;
  if (!there && ((!named && !fs::is_directory(status)) || !needs_files(environment))) return std::nullopt;
  if (!there)
    throw ConfigError(named ? "CLEARML_CONFIG_FILE names " : "", path, named ? ", which is " : " is ",
                      fs::is_directory(status) ? "a folder" : "not there",
                      ", not a file with ClearML's settings; mend it, or set CLEARML_IGNORE_MISSING_CONFIG=1 "
                      "to go on without ClearML");
  std::ifstream in(path, std::ios::binary);
  if (!in) throw IoError("cannot read ", path, ": ", system_error_text(errno), "; check who may read it");
  return std::string(std::istreambuf_iterator<char>(in), {});
}

}  // namespace

std::vector<std::string> clearml_files(const Environment& environment) {
  if (const std::string only = variable(environment, "CONFIG_FILE"); !only.empty())
    return {expanded(only, environment)};
  return {expanded("~/trains.conf", environment), expanded("~/clearml.conf", environment)};
}

ClearmlSources clearml_sources(bool offline) {
  ClearmlSources sources;
  for (char** entry = environ; entry && *entry; ++entry) {
    const std::string_view line = *entry;
    if (const size_t equals = line.find('='); equals != std::string_view::npos)
      sources.environment.emplace(line.substr(0, equals), line.substr(equals + 1));
  }
  for (const std::string& path : clearml_files(sources.environment))
    if (const auto text = read_if_there(path, sources.environment, offline))
      sources.files.push_back({path, *text});
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) == 0) sources.host_name = name.data();
  return sources;
}

ClearmlSettings clearml_settings(const ClearmlSources& sources) {
  const Environment& environment = sources.environment;
  Hocon files{.kind = Hocon::Kind::object};
  for (const auto& file : sources.files) merge(files, detail::parse_hocon(file.path, file.text, environment));
  const Search search(environment, files);

  ClearmlSettings settings;
  find_hosts(settings, search);
  find_credentials(settings, search, environment);
  const std::string verify = search("API_HOST_VERIFY_CERT", "api.verify_certificate").value;
  settings.verify_tls = verify.empty() || truth(verify).value_or(true);
  if (!verify.empty() && !truth(verify)) settings.ca_path = expanded(verify, environment);
  settings.http_proxy = http_proxy(environment);
  if (environment.contains("CLEARML_DEFAULT_OUTPUT_URI"))
    settings.default_output_uri = trimmed(environment.at("CLEARML_DEFAULT_OUTPUT_URI"));
  if (settings.default_output_uri.empty())
    settings.default_output_uri = written(files, "sdk.development.default_output_uri");
  settings.worker = search("WORKER_NAME", "").value;
  if (settings.worker.empty()) settings.worker = sources.host_name;
  std::ranges::replace_if(
      settings.worker, [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
  const std::string cache = search("CACHE_DIR", "sdk.storage.cache.default_base_dir").value;
  settings.cache_folder = expanded(cache.empty() ? "~/.clearml/cache" : cache, environment);
  return settings;
}

}  // namespace lab
