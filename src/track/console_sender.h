#pragma once
// A run's console on its way to the server.

#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "track/sender_link.h"

namespace lab::detail {

// The console is the one thing that is doubled when it is sent twice: where an answer was lost, the server is
// asked first. For the thread that sends all but models.
class ConsoleSender {
 public:
  using Json = nlohmann::json;
  using Clock = std::chrono::steady_clock;

  explicit ConsoleSender(SenderLink& link) : link_(link) {}

  // Sends those of the spool's lines that the server does not have, in the order of their times. Returns why
  // not all of them, without a message where it is too early to ask.
  std::optional<ApiError> send(std::vector<Json> lines, Clock::time_point end);

 private:
  static constexpr std::chrono::milliseconds until_seen{2000};  // a server shows new events a little later

  std::optional<ApiError> find(Clock::time_point end);

  SenderLink& link_;
  Clock::time_point unsure_since_ = Clock::now() - until_seen;  // of an earlier process
};

}  // namespace lab::detail
