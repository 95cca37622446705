#pragma once
// Requests to HTTP servers: one at a time, with limits on time and size, from a thread that may be called
// off.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace lab {

// Why there is no answer.
enum class HttpFailure {
  none,
  refused,    // no connection: nobody there, or a name that is not known
  timed_out,  // one of the limits
  tls,        // the server's certificate cannot be trusted
  dropped,    // the connection ended before the answer did
  too_large,  // the answer is longer than asked for
  cancelled,
  file,     // the file to send or write
  bad_url,  // not http or https, or with a name and password in it
};
std::string_view name_of(HttpFailure failure);

struct HttpLimits {
  std::chrono::milliseconds connect{10'000};
  std::chrono::seconds idle{60};  // without a byte either way; the wait for the answer counts; 0: any time
  std::chrono::milliseconds total{300'000};
  int64_t answer_bytes = int64_t{64} << 20;
};

struct HttpRequest {
  std::string url;
  std::vector<std::string> headers;  // "Name: value"
  HttpLimits limits;
  bool once = false;  // never sent a second time, as it else is when a kept connection turns out to be closed
};

// `status` and `body` are of the server if failure is none; a redirection is an answer like others.
struct HttpAnswer {
  HttpFailure failure = HttpFailure::none;
  std::string problem;           // of a failure, in words
  bool may_have_arrived = true;  // false: the server cannot have seen the request
  int status = 0;
  std::string body;
  std::string location;                 // of a redirection
  std::chrono::seconds retry_after{0};  // as the server asks; 0: it does not

  bool ok() const { return failure == HttpFailure::none && status >= 200 && status < 300; }
};

struct HttpOptions {
  bool verify_tls = true;
  std::string ca_path = "";     // file or folder of certificates to trust; "": the system's
  std::string http_proxy = "";  // for addresses http://, where no_proxy lets it; "": what http_proxy says
};

// Keeps connections open between requests. Follows no redirection, keeps no cookies, takes proxies from the
// environment (http_proxy; https_proxy and no_proxy, also in capitals). Bodies come decoded
// (Content-Encoding), and the limit on an answer's size is on what they then are. For one thread, but for
// cancel(). Nothing here throws but the constructor (Unavailable), and what goes wrong outside is in the
// answer.
class HttpClient {
 public:
  explicit HttpClient(HttpOptions options = {});
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  HttpAnswer get(const HttpRequest& request);
  HttpAnswer post(const HttpRequest& request, std::string_view body);
  // POST of multipart/form-data with the one part `name` (also its file name), the bytes of the file.
  HttpAnswer upload(const HttpRequest& request, const std::string& name, const std::string& file);
  // Puts the body of an answer 2xx into the file `path`: in full, or not at all. Other answers come as
  // `body`.
  HttpAnswer download(const HttpRequest& request, const std::string& path);

  // From any thread: what is under way ends at once, and so does all that comes later.
  void cancel();
  bool cancelled() const { return cancelled_; }

 private:
  struct Transfer;
  HttpAnswer run(const HttpRequest& request, Transfer& transfer);
  int perform();

  HttpOptions options_;
  void* handle_ = nullptr;  // of curl: the request under way
  void* multi_ = nullptr;   // of curl: the connections, and what wakes their thread
  std::atomic<bool> cancelled_ = false;
};

}  // namespace lab
