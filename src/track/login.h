#pragma once
// The texts that a login is made of: what is sent, and what the token that comes back says.

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace lab::detail {

std::string base64(std::string_view bytes);
// Of the alphabet of URLs, without padding; nothing when it is not that.
std::optional<std::string> from_base64url(std::string_view text);

// How long from now on a token (JWT) may be used before it should be renewed: 6 minutes before its end, or
// half its life if that is short. Nothing where it does not say. Its life is taken from its own times where
// it has both, as the server's clock may be another than ours.
std::optional<std::chrono::seconds> renewal_after(const std::string& token, int64_t now);

}  // namespace lab::detail
