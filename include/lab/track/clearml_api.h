#pragma once
// Calls to a ClearML server: login, the server's answers and errors, what is tried again and for how long.

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <limits>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "lab/core/random.h"
#include "lab/track/clearml_settings.h"
#include "lab/track/http.h"

namespace lab {

// Why a call did not succeed. No key, secret or token is in the message.
struct ApiError {
  HttpFailure failure = HttpFailure::none;  // none: the server answered
  int http_code = 0;                        // 0: it did not
  int result_code = 0, result_subcode = 0;  // of the server's envelope; 0: the answer had none
  std::string message = {};
  bool temporary = false;        // the same call may succeed later
  bool may_have_worked = false;  // the answer was lost, or says nothing about it
  std::chrono::seconds retry_after{0};
};

struct ApiAnswer {
  std::optional<ApiError> error;
  std::string data;  // JSON: the member "data" of the answer
  bool ok() const { return !error; }
};

struct BatchAnswer {
  std::optional<ApiError> error;
  size_t taken = 0;       // so many lines from the first on need not be sent again
  int64_t refused = 0;    // of those, events that the server did not take
  std::string complaint;  // why it did not
  bool ok() const { return !error; }
};

struct CallOptions {
  std::chrono::milliseconds deadline{60'000};  // for all tries together, the waits between them included
  // Whether the call may take effect twice: sent again where it cannot be known whether it worked.
  bool repeatable = true;
  int tries = std::numeric_limits<int>::max();  // the most of them
};

struct RetryPolicy {
  std::chrono::milliseconds first{1'000}, most{120'000};
};

// The wait before try `attempt` + 2: doubled each time, of which the random number in [0, 1) takes up to
// half.
std::chrono::milliseconds backoff(const RetryPolicy& policy, int attempt, double random);

// Fills in `temporary` and `may_have_worked` from the other fields. `arrived`: the server may have seen the
// request.
void judge(ApiError& error, bool arrived);

// Whether an API call sent twice leaves what one leaves.
bool repeats_safely(std::string_view service_action);

struct ApiOptions {
  HttpLimits limits;
  RetryPolicy retry;
  size_t body_bytes = 15'728'640;  // the most the server takes at once
  uint64_t seed = 0;               // of the waits between tries: should differ between processes
};

// One session with a server. For one thread, but for cancel(). Nothing throws but the constructor
// (ConfigError, when there is nothing to log in with): what goes wrong is in the answer, once the deadline
// has passed or it is final.
class ClearmlApi {
 public:
  explicit ClearmlApi(ClearmlSettings settings, ApiOptions options = {});

  // call("tasks.edit", R"({"task":"...","force":true})")
  ApiAnswer call(const std::string& service_action, const std::string& json, CallOptions options = {});
  // Events, one JSON object per line (without its end). Sends as many requests as the size asks for; a single
  // line beyond that counts as refused.
  BatchAnswer add_batch(std::span<const std::string> lines, CallOptions options = {});
  // Puts a file on the file server under `storage_path` ("/project/name.id/models/best.pt", names encoded).
  ApiAnswer upload(const std::string& storage_path, const std::string& file, CallOptions options = {});
  // Gets `uri` into the file `path`. The token goes to the file server only.
  ApiAnswer download(const std::string& uri, const std::string& path, CallOptions options = {});

  // From any thread: what is under way ends within about a second, and all that comes later at once.
  void cancel();
  bool cancelled() const { return http_.cancelled(); }

 private:
  using Clock = std::chrono::steady_clock;
  struct Exchange;
  ApiAnswer repeated(const Exchange& exchange, CallOptions options);
  ApiAnswer post(const std::string& action, const std::string& type, const std::string& body,
                 CallOptions options);
  ApiAnswer log_in(Clock::time_point end);
  HttpRequest request(const std::string& url, Clock::time_point end) const;
  ApiAnswer read(const HttpAnswer& answer, const std::string& url) const;
  bool sleep(std::chrono::milliseconds time);
  std::string without_secrets(std::string message) const;

  ClearmlSettings settings_;
  ApiOptions options_;
  HttpClient http_;
  Rng random_;
  Secret token_;
  Clock::time_point renew_at_ = Clock::time_point::max();
  std::mutex mutex_;
  std::condition_variable woken_;
};

}  // namespace lab
