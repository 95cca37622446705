#include "lab/track/http.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <utility>

#include "lab/core/error.h"
#include "track/curl.h"
#include "track/new_file.h"
#include "track/no_broken_pipe.h"

namespace lab {

using detail::curl;
using detail::NewFile;
using detail::NoBrokenPipe;

namespace {

HttpFailure failure_of(CURLcode code) {
  switch (code) {
    case CURLE_OK:
      return HttpFailure::none;
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
      return HttpFailure::refused;
    case CURLE_OPERATION_TIMEDOUT:
      return HttpFailure::timed_out;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_CERTPROBLEM:
      return HttpFailure::tls;
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
    case CURLE_LOGIN_DENIED:
      return HttpFailure::bad_url;
    case CURLE_READ_ERROR:
    case CURLE_FILE_COULDNT_READ_FILE:
      return HttpFailure::file;
    case CURLE_ABORTED_BY_CALLBACK:
      return HttpFailure::cancelled;
    default:
      return HttpFailure::dropped;
  }
}

std::string header_value(std::string_view line, std::string_view lower_name) {
  const size_t colon = line.find(':');
  const auto same = [](char a, char b) { return std::tolower(static_cast<unsigned char>(a)) == b; };
  if (colon == std::string_view::npos || !std::ranges::equal(line.substr(0, colon), lower_name, same))
    return "";
  const size_t begin = line.find_first_not_of(" \t", colon + 1);
  const size_t end = line.find_last_not_of(" \t\r\n");
  return begin == std::string_view::npos || end < begin ? ""
                                                        : std::string(line.substr(begin, end + 1 - begin));
}

template <class Value>
void set(CURL* handle, CURLoption option, Value value) {
  curl().easy_setopt(handle, option, value);
}

void set_request(CURL* handle, const HttpRequest& request) {
  set(handle, CURLOPT_URL, request.url.c_str());
  set(handle, CURLOPT_PROTOCOLS_STR, "http,https");
  set(handle, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
  set(handle, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  set(handle, CURLOPT_FRESH_CONNECT, request.once ? 1L : 0L);
  set(handle, CURLOPT_NOSIGNAL, 1L);
  set(handle, CURLOPT_QUICK_EXIT, 1L);       // else a limit or cancel() would wait for the resolver's own end
  set(handle, CURLOPT_ACCEPT_ENCODING, "");  // some proxies compress unasked: all that curl can decode
}

void set_limits(CURL* handle, const HttpLimits& limits) {
  set(handle, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(limits.connect.count()));
  set(handle, CURLOPT_TIMEOUT_MS, std::max(1L, static_cast<long>(limits.total.count())));
  set(handle, CURLOPT_LOW_SPEED_LIMIT, limits.idle.count() > 0 ? 1L : 0L);
  set(handle, CURLOPT_LOW_SPEED_TIME, static_cast<long>(limits.idle.count()));
}

void set_trust(CURL* handle, const HttpOptions& options) {
  set(handle, CURLOPT_SSL_VERIFYPEER, options.verify_tls ? 1L : 0L);
  set(handle, CURLOPT_SSL_VERIFYHOST, options.verify_tls ? 2L : 0L);
  std::error_code absent;
  if (std::filesystem::is_directory(options.ca_path, absent))
    set(handle, CURLOPT_CAPATH, options.ca_path.c_str());
  else if (!options.ca_path.empty())
    set(handle, CURLOPT_CAINFO, options.ca_path.c_str());
}

void set_proxy(CURL* handle, const std::string& url, const std::string& http_proxy) {
  if (!http_proxy.empty() && url.starts_with("http://")) set(handle, CURLOPT_PROXY, http_proxy.c_str());
}

}  // namespace

// One request: what is sent, and what has come so far.
struct HttpClient::Transfer {
  CURL* handle = nullptr;
  HttpAnswer answer;
  NewFile* file = nullptr;  // where the body of an answer 2xx goes
  int64_t most = 0, got = 0;
  std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers{nullptr, curl().slist_free_all};
  char problem[CURL_ERROR_SIZE] = {};

  static size_t on_body(char* bytes, size_t one, size_t size, void* self) {
    auto& transfer = *static_cast<Transfer*>(self);
    size *= one;
    transfer.got += static_cast<int64_t>(size);
    if (transfer.got > transfer.most) {
      transfer.answer.failure = HttpFailure::too_large;
      return 0;
    }
    long status = 0;
    curl().easy_getinfo(transfer.handle, CURLINFO_RESPONSE_CODE, &status);
    if (!transfer.file || status < 200 || status > 299) {
      if (transfer.file && transfer.got > HttpLimits().answer_bytes) {  // words of an error, not the file
        transfer.answer.failure = HttpFailure::too_large;
        return 0;
      }
      transfer.answer.body.append(bytes, size);
    } else if (!transfer.file->append({bytes, size})) {
      transfer.answer.failure = HttpFailure::file;
      return 0;
    }
    return size;
  }

  static size_t on_header(char* bytes, size_t one, size_t size, void* self) {
    auto& answer = static_cast<Transfer*>(self)->answer;
    const std::string_view line(bytes, size * one);
    if (const std::string value = header_value(line, "location"); !value.empty()) answer.location = value;
    // It may also be a date, which is as good as nothing: our clock may be another one.
    if (const std::string value = header_value(line, "retry-after"); !value.empty())
      answer.retry_after = std::chrono::seconds(std::clamp(std::atoi(value.c_str()), 0, 3600));
    return size * one;
  }

  void set_headers(const std::vector<std::string>& lines) {
    const auto add = [this](const std::string& line) {
      headers.reset(curl().slist_append(headers.release(), line.c_str()));
    };
    for (const std::string& line : lines) add(line);
    add("Expect:");  // curl would wait a second for servers that do not know it
    set(handle, CURLOPT_HTTPHEADER, headers.get());
  }

  void set_receivers() {
    set(handle, CURLOPT_ERRORBUFFER, static_cast<char*>(problem));
    set(handle, CURLOPT_WRITEFUNCTION, &on_body);
    set(handle, CURLOPT_WRITEDATA, this);
    set(handle, CURLOPT_HEADERFUNCTION, &on_header);
    set(handle, CURLOPT_HEADERDATA, this);
  }

  HttpAnswer concluded(CURLcode code) {
    long status = 0, sent = 0;
    curl().easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
    curl().easy_getinfo(handle, CURLINFO_REQUEST_SIZE, &sent);
    answer.status = static_cast<int>(status);
    if (code != CURLE_OK && answer.failure == HttpFailure::none) answer.failure = failure_of(code);
    if (answer.failure == HttpFailure::none) return std::move(answer);
    answer.may_have_arrived = sent > 0;
    answer.problem = *problem ? std::string(problem) : std::string(name_of(answer.failure));
    if (answer.failure == HttpFailure::too_large)
      answer.problem = lab::text("the answer is longer than ", byte_size(static_cast<uint64_t>(most)));
    return std::move(answer);
  }
};

std::string_view name_of(HttpFailure failure) {
  switch (failure) {
    case HttpFailure::none:
      return "none";
    case HttpFailure::refused:
      return "refused";
    case HttpFailure::timed_out:
      return "timed out";
    case HttpFailure::tls:
      return "certificate not trusted";
    case HttpFailure::dropped:
      return "connection dropped";
    case HttpFailure::too_large:
      return "answer too large";
    case HttpFailure::cancelled:
      return "cancelled";
    case HttpFailure::file:
      return "file";
    case HttpFailure::bad_url:
      return "not a URL to ask";
  }
  return "unknown";
}

HttpClient::HttpClient(HttpOptions options) : options_(std::move(options)) {
  handle_ = curl().easy_init();
  multi_ = curl().multi_init();
  if (!handle_ || !multi_)
    throw Unavailable("the HTTP library libcurl does not start; is there memory left?");
}

HttpClient::~HttpClient() {
  curl().easy_cleanup(handle_);
  curl().multi_cleanup(multi_);
}

HttpAnswer HttpClient::get(const HttpRequest& request) {
  curl().easy_reset(handle_);
  Transfer transfer;
  return run(request, transfer);
}

HttpAnswer HttpClient::post(const HttpRequest& request, std::string_view body) {
  curl().easy_reset(handle_);
  curl().easy_setopt(handle_, CURLOPT_POST, 1L);
  curl().easy_setopt(handle_, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  curl().easy_setopt(handle_, CURLOPT_POSTFIELDS, body.empty() ? "" : body.data());
  Transfer transfer;
  return run(request, transfer);
}

HttpAnswer HttpClient::upload(const HttpRequest& request, const std::string& name, const std::string& file) {
  curl().easy_reset(handle_);
  const std::unique_ptr<curl_mime, decltype(&curl_mime_free)> form(curl().mime_init(handle_),
                                                                   curl().mime_free);
  curl_mimepart* part = curl().mime_addpart(form.get());
  curl().mime_name(part, name.c_str());
  if (curl().mime_filedata(part, file.c_str()) != CURLE_OK) {
    HttpAnswer answer;
    answer.failure = HttpFailure::file;
    answer.may_have_arrived = false;
    answer.problem = lab::text("cannot read ", file, ": ", system_error_text(errno));
    return answer;
  }
  curl().mime_filename(part, name.c_str());
  curl().easy_setopt(handle_, CURLOPT_MIMEPOST, form.get());
  Transfer transfer;
  return run(request, transfer);
}

HttpAnswer HttpClient::download(const HttpRequest& request, const std::string& path) {
  curl().easy_reset(handle_);
  NewFile file(path);
  Transfer transfer;
  transfer.file = &file;
  HttpAnswer answer;
  if (!file.problem()) answer = run(request, transfer);
  if (file.problem() || (answer.ok() && !file.finish())) {
    answer.failure = HttpFailure::file;
    answer.problem = lab::text("cannot write ", path, ": ", system_error_text(file.problem()));
  }
  return answer;
}

HttpAnswer HttpClient::run(const HttpRequest& request, Transfer& transfer) {
  transfer.handle = handle_;
  transfer.most = request.limits.answer_bytes;
  set_request(handle_, request);
  set_limits(handle_, request.limits);
  set_trust(handle_, options_);
  set_proxy(handle_, request.url, options_.http_proxy);
  transfer.set_headers(request.headers);
  transfer.set_receivers();
  const CURLcode code = static_cast<CURLcode>(perform());
  HttpAnswer answer = transfer.concluded(code);
  curl().easy_reset(handle_);  // what was set points into this call
  return answer;
}

// Moves the bytes, and sleeps in between until there are more, a limit has come, or cancel() wakes it.
// Returns a CURLcode.
int HttpClient::perform() {
  constexpr int an_hour_ms = 3'600'000;
  const NoBrokenPipe guard;
  CURLcode code = CURLE_ABORTED_BY_CALLBACK;
  curl().multi_add_handle(multi_, handle_);
  int running = 1, left = 0;
  while (!cancelled_ && running > 0 && curl().multi_perform(multi_, &running) == CURLM_OK)
    if (running > 0) curl().multi_poll(multi_, nullptr, 0, an_hour_ms, nullptr);
  while (const CURLMsg* message = curl().multi_info_read(multi_, &left))
    if (message->msg == CURLMSG_DONE) code = message->data.result;
  curl().multi_remove_handle(multi_, handle_);
  return code;
}

void HttpClient::cancel() {
  cancelled_ = true;
  curl().multi_wakeup(multi_);
}

}  // namespace lab
