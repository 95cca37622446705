#pragma once
// What a run's sender tells the server, and how far it got.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "lab/core/log.h"
#include "lab/track/clearml_api.h"
#include "track/sender_state.h"

namespace lab::detail {

// There is something else to be done first: no trouble to be told about.
inline ApiError waiting() { return {.temporary = true}; }

// The server understood and says no: to send the same again changes nothing.
bool is_refusal(const ApiError& error);

// The server, and the state of a run folder as calls change it. For two threads: one that uploads models, and
// one for all else; but renew(), api() and upload_api() for any. Nothing but the constructor throws for an
// outside reason.
class SenderLink {
 public:
  using Json = nlohmann::json;
  using Clock = std::chrono::steady_clock;

  // `state`: what is known of the folder. Throws ConfigError where there is nothing to log in with.
  SenderLink(std::string run_folder, ClearmlSettings settings, Log log, ApiOptions options,
             SenderState state);

  // Another connection for the calls to come; api() still has what was there for those under way.
  void renew();
  std::shared_ptr<ClearmlApi> api() const;
  std::shared_ptr<ClearmlApi> upload_api() const;  // for files, as long as bytes go on

  SenderState seen() const;
  // Takes part of the state to the disk; a disk that is full costs at most that things are sent again.
  void change(const std::function<void(SenderState&)>& apply);

  ApiAnswer call(const std::string& action, const Json& body, Clock::time_point end);
  // Adds events to the task. What the server refuses is said, counted and left out: all that comes behind
  // matters too. `repeatable`: may be sent again where it cannot be known whether it worked.
  std::optional<ApiError> add(const std::vector<Json>& records, bool repeatable, Clock::time_point end);
  // Says once, and counts, that the server does not get these.
  void lose(int64_t records, const std::string& why);

 private:
  std::optional<ApiError> refused(const std::optional<ApiError>& error, size_t records);

  std::string folder_;
  ClearmlSettings settings_;
  Log log_;
  ApiOptions options_;
  mutable std::mutex mutex_;  // guards the next four
  SenderState state_;
  std::shared_ptr<ClearmlApi> api_, upload_api_;
  bool said_disk_ = false;
  std::atomic<bool> said_refused_ = false;
};

}  // namespace lab::detail
