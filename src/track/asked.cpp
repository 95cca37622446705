#include "track/asked.h"

namespace lab::detail {

nlohmann::json asked(ClearmlApi& api, const std::string& action, const nlohmann::json& body,
                     std::chrono::steady_clock::time_point end) {
  using nlohmann::json;
  const auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
  const ApiAnswer answer =
      api.call(action, body.dump(-1, ' ', false, json::error_handler_t::replace), {.deadline = left});
  if (!answer.ok()) throw *answer.error;
  return json::parse(answer.data, nullptr, false);
}

}  // namespace lab::detail
