#pragma once
// Addresses of servers and of what they hold. Pure functions.

#include <string>
#include <string_view>

namespace lab {

// Whether the URL is of that server: the host itself or below it. "http://a:1@b/" is not below "http://a:1".
bool is_below(std::string_view url, std::string_view host);

// Every byte but letters, digits, _.-~ and those of `safe` as %XX.
std::string percent_encoded(std::string_view text, std::string_view safe);

}  // namespace lab
