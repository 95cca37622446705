#include "lab/track/clearml_api.h"

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>
#include <type_traits>
#include <utility>

#include "lab/core/error.h"
#include "lab/core/version.h"
#include "lab/track/url.h"
#include "track/login.h"

namespace lab {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;

const std::string api_version = "/v2.23/";
constexpr int deepest_answer = 200;

// Reading an answer takes stack for each level of it.
bool nests_too_deep(const std::string& text) {
  int depth = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted && c == '\\')
      ++i;
    else if (c == '"')
      quoted = !quoted;
    else if (!quoted && (c == '{' || c == '[') && ++depth > deepest_answer)
      return true;
    else if (!quoted && (c == '}' || c == ']'))
      --depth;
  }
  return false;
}

json parsed(const std::string& text) {
  if (nests_too_deep(text)) return json(json::value_t::discarded);
  return json::parse(text, nullptr, false);
}

template <class T>
T member(const json& object, const char* name, T otherwise) {
  if (!object.is_object()) return otherwise;
  const auto found = object.find(name);
  if (found == object.end()) return otherwise;
  if constexpr (std::is_same_v<T, std::string>)
    return found->is_string() ? found->get<std::string>() : otherwise;
  else if constexpr (std::is_same_v<T, json>)
    return *found;
  else
    return found->is_number_integer() ? found->get<T>() : otherwise;
}

std::string dumped(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

ApiAnswer failed(ApiError error, bool arrived) {
  judge(error, arrived);
  return {.error = std::move(error), .data = {}};
}

// An answer that is not of the API server: why, and where to look.
std::string foreign(const HttpAnswer& answer, const std::string& url) {
  if (answer.status >= 300 && answer.status < 400)
    return text(url, " redirects to ", quoted(answer.location), "; set the host to where the server is");
  if (answer.status < 300)
    return text(
        url,
        " answers something else than a ClearML server does; is the address right, or a proxy in between?");
  return text(url, " answers ", answer.status,
              ", not in the words of a ClearML server; is a proxy in between?");
}

std::string replace_all(std::string in, const std::string& what) {
  for (size_t at = 0; !what.empty() && (at = in.find(what, at)) != std::string::npos; at += 3)
    in.replace(at, what.size(), "***");
  return in;
}

// What a login with keys says in its header; "" where there are none.
std::string login_words(const ClearmlSettings& settings) {
  if (settings.secret_key.empty()) return "";
  return detail::base64(settings.access_key.reveal() + ":" + settings.secret_key.reveal());
}

}  // namespace

// One request, as it is sent at each try. `send` gets what authorizes it, "" where nothing does.
struct ClearmlApi::Exchange {
  std::function<ApiAnswer(const std::string& authorization, Clock::time_point end)> send;
  bool authorized = true;
};

ClearmlApi::ClearmlApi(ClearmlSettings settings, ApiOptions options)
    : settings_(std::move(settings)),
      options_(options),
      http_({.verify_tls = settings_.verify_tls,
             .ca_path = settings_.ca_path,
             .http_proxy = settings_.http_proxy}),
      random_(options.seed),
      token_(settings_.token) {
  if (!settings_.configured())
    throw ConfigError("there are no credentials for ", settings_.api_host,
                      "; set CLEARML_API_ACCESS_KEY and CLEARML_API_SECRET_KEY, or write ~/clearml.conf");
  if (token_.empty()) return;
  if (const auto left = detail::renewal_after(token_.reveal(), std::time(nullptr)))
    renew_at_ = Clock::now() + *left;
}

ApiAnswer ClearmlApi::call(const std::string& service_action, const std::string& body, CallOptions options) {
  options.repeatable = options.repeatable && repeats_safely(service_action);
  return post(service_action, "application/json", body, options);
}

ApiAnswer ClearmlApi::post(const std::string& action, const std::string& type, const std::string& body,
                           CallOptions options) {
  const std::string url = settings_.api_host + api_version + action;
  if (body.size() > options_.body_bytes)
    return failed({.message = text(action, " would send ", byte_size(body.size()), "; the server takes ",
                                   byte_size(options_.body_bytes), " at once: send less")},
                  false);
  Exchange exchange;
  exchange.send = [&](const std::string& authorization, Clock::time_point end) {
    HttpRequest question = request(url, end);
    question.once = !options.repeatable;
    question.headers.push_back("Content-Type: " + type);
    question.headers.push_back("Authorization: " + authorization);
    return read(http_.post(question, body), url);
  };
  return repeated(exchange, options);
}

BatchAnswer ClearmlApi::add_batch(std::span<const std::string> lines, CallOptions options) {
  BatchAnswer out;
  const auto end = Clock::now() + options.deadline;
  while (out.taken < lines.size()) {
    std::string body;
    size_t next = out.taken;
    for (; next < lines.size() && body.size() + lines[next].size() + 1 <= options_.body_bytes; ++next)
      body += lines[next] + "\n";
    if (body.empty()) {
      ++out.refused;
      ++out.taken;
      out.complaint = text("an event of ", byte_size(lines[next].size()), " is longer than the server takes");
      continue;
    }
    options.deadline = std::chrono::duration_cast<milliseconds>(end - Clock::now());
    const ApiAnswer answer = post("events.add_batch", "application/json-lines", body, options);
    out.error = answer.error;
    if (!answer.ok()) return out;
    out.taken = next;
    const json data = parsed(answer.data);
    const int64_t errors = member<int64_t>(data, "errors", 0);
    if (errors > 0) {
      out.refused += errors;
      out.complaint = without_secrets(dumped(member<json>(data, "errors_info", {})));
    }
  }
  return out;
}

ApiAnswer ClearmlApi::upload(const std::string& storage_path, const std::string& file, CallOptions options) {
  const std::string url = settings_.files_host + "/";
  if (settings_.files_host.empty())
    return failed({.message = "the file server is not known; set CLEARML_FILES_HOST or api.files_server"},
                  false);
  Exchange exchange;
  exchange.send = [&](const std::string& authorization, Clock::time_point end) {
    HttpRequest question = request(url, end);
    question.headers.push_back("Authorization: " + authorization);
    const HttpAnswer answer = http_.upload(question, storage_path, file);
    if (!answer.ok()) return read(answer, url);
    const json stored = parsed(answer.body);
    if (stored.is_array() && std::ranges::find(stored, json(storage_path)) != stored.end())
      return ApiAnswer{.error = {}, .data = dumped(stored)};
    return failed({.http_code = answer.status,
                   .message = text(url, " does not say that it stored ", quoted(storage_path),
                                   "; is it ClearML's file server?")},
                  true);
  };
  return repeated(exchange, options);
}

ApiAnswer ClearmlApi::download(const std::string& uri, const std::string& path, CallOptions options) {
  Exchange exchange;
  exchange.authorized = is_below(uri, settings_.files_host);
  exchange.send = [&](const std::string& authorization, Clock::time_point end) {
    HttpRequest question = request(uri, end);
    if (!exchange.authorized) question.headers.clear();
    if (!authorization.empty()) question.headers.push_back("Authorization: " + authorization);
    const HttpAnswer answer = http_.download(question, path);
    return answer.ok() ? ApiAnswer{} : read(answer, uri);
  };
  return repeated(exchange, options);
}

void ClearmlApi::cancel() {
  http_.cancel();
  const std::lock_guard lock(mutex_);
  woken_.notify_all();
}

ApiAnswer ClearmlApi::repeated(const Exchange& exchange, CallOptions options) {
  const auto end = Clock::now() + options.deadline;
  bool renewed = false;
  for (int attempt = 0;; ++attempt) {
    ApiAnswer answer;
    const bool log_in_first = exchange.authorized && (token_.empty() || Clock::now() >= renew_at_);
    if (log_in_first) answer = log_in(end);
    const bool ready = answer.ok();
    if (ready) answer = exchange.send(exchange.authorized ? "Bearer " + token_.reveal() : "", end);
    if (answer.ok()) return answer;
    const ApiError& error = *answer.error;
    if (ready && exchange.authorized && error.http_code == 401 && !std::exchange(renewed, true)) {
      token_ = {};
      continue;
    }
    const bool unsure = ready && error.may_have_worked && !options.repeatable;
    if (!error.temporary || unsure || attempt + 1 >= options.tries) return answer;
    const milliseconds wait =
        std::max<milliseconds>(backoff(options_.retry, attempt, random_.uniform()), error.retry_after);
    if (Clock::now() + wait >= end || !sleep(wait)) return answer;
  }
}

ApiAnswer ClearmlApi::log_in(Clock::time_point end) {
  const std::string url = settings_.api_host + "/auth.login";
  HttpRequest question = request(url, end);
  question.headers.push_back("Content-Type:");  // there is no body
  question.headers.push_back("Authorization: " + (settings_.token.empty()
                                                      ? "Basic " + login_words(settings_)
                                                      : "Bearer " + settings_.token.reveal()));
  ApiAnswer answer = read(http_.post(question, ""), url);
  if (!answer.ok()) return answer;
  const auto token = member<std::string>(parsed(answer.data), "token", "");
  const bool sendable = std::ranges::none_of(token, [](unsigned char c) { return c <= 0x20 || c >= 0x7f; });
  if (token.empty() || !sendable)
    return failed({.http_code = 200,
                   .result_code = 200,
                   .message = url + " gives no token; is it a ClearML API server?"},
                  true);
  token_ = Secret(token);
  const auto left = detail::renewal_after(token, std::time(nullptr));
  renew_at_ = left ? Clock::now() + *left : Clock::time_point::max();
  return answer;
}

HttpRequest ClearmlApi::request(const std::string& url, Clock::time_point end) const {
  HttpRequest out{.url = url, .headers = {}, .limits = options_.limits};
  const auto left = std::chrono::duration_cast<milliseconds>(end - Clock::now());
  out.limits.total = std::max(milliseconds(1), std::min(out.limits.total, left));
  out.headers = {"X-ClearML-Worker: " + settings_.worker, text("X-ClearML-Client: lab-", version)};
  return out;
}

ApiAnswer ClearmlApi::read(const HttpAnswer& answer, const std::string& url) const {
  ApiError error{.failure = answer.failure, .http_code = answer.status, .retry_after = answer.retry_after};
  if (answer.failure != HttpFailure::none) {
    error.message = without_secrets(
        text("no answer from ", url, ": ", name_of(answer.failure), " (", answer.problem, ")"));
    return failed(std::move(error), answer.may_have_arrived);
  }
  const json body = parsed(answer.body);
  const json meta = member<json>(body, "meta", {});
  error.result_code = member<int>(meta, "result_code", 0);
  if (answer.status == 200 && error.result_code == 200)
    return {.error = {}, .data = dumped(member<json>(body, "data", json::object()))};
  error.result_subcode = member<int>(meta, "result_subcode", 0);
  error.message = error.result_code == 0 ? foreign(answer, url)
                                         : text(url, ": ", error.result_code, "/", error.result_subcode, " ",
                                                member<std::string>(meta, "result_msg", ""));
  error.message = without_secrets(std::move(error.message));
  return failed(std::move(error), true);
}

bool ClearmlApi::sleep(milliseconds time) {
  std::unique_lock lock(mutex_);
  return !woken_.wait_for(lock, time, [this] { return http_.cancelled(); });
}

std::string ClearmlApi::without_secrets(std::string message) const {
  const Secret login(login_words(settings_));
  for (const Secret* secret :
       {&login, &settings_.secret_key, &settings_.token, &token_, &settings_.access_key})
    if (secret->reveal().size() > 3) message = replace_all(std::move(message), secret->reveal());
  return message;
}

}  // namespace lab
