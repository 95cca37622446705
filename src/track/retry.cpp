// What is worth another try, and when: decisions only.

#include <algorithm>
#include <array>

#include "lab/track/clearml_api.h"

namespace lab {

std::chrono::milliseconds backoff(const RetryPolicy& policy, int attempt, double random) {
  std::chrono::milliseconds wait = std::min(policy.first, policy.most);
  for (int i = 0; i < attempt && wait < policy.most; ++i) wait = std::min(wait * 2, policy.most);
  return std::chrono::milliseconds(
      static_cast<int64_t>(static_cast<double>(wait.count()) * (1 - random / 2)));
}

void judge(ApiError& error, bool arrived) {
  switch (error.failure) {
    case HttpFailure::refused:
    case HttpFailure::timed_out:
    case HttpFailure::dropped:
      error.temporary = true;
      break;
    case HttpFailure::none: {
      const int code = error.http_code;
      const bool garbled = code == 200 && error.result_code == 0;
      error.temporary = code == 408 || code == 429 || code >= 500 || garbled;
      // 429 and 503 are said before anything is done; other 5xx also by a proxy that did not wait for the
      // end.
      error.may_have_worked = error.temporary && code != 429 && code != 503;
      return;
    }
    default:
      break;
  }
  error.may_have_worked = arrived;
}

bool repeats_safely(std::string_view service_action) {
  // A second one of these makes a second, empty thing.
  constexpr std::array<std::string_view, 2> once{"tasks.create", "models.create"};
  return std::ranges::find(once, service_action) == once.end();
}

}  // namespace lab
