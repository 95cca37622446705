#pragma once
// TOML text to our own tables: the only door to the parser.

#include <optional>
#include <string>
#include <vector>

#include "lab/config/value.h"

namespace lab {

// The most a config file may hold; real ones are a thousandth of it.
inline constexpr size_t most_config_bytes = size_t{1} << 20;

// Refuses what the parser cannot bear: keys of more than 32 parts or 1,024 characters, arrays and inline
// tables nested more than 64 deep, headers without a name, brackets that do not match, characters beyond
// ASCII outside of quotes. Other text that is not TOML passes; the parser has more to say about it. Throws
// ConfigError.
void refuse_absurd_toml(const std::string& source, const std::string& toml);

// Parses the text; every key and value has an origin in `source`. Throws ConfigError with source:line:column.
Table parse_toml(const std::string& source, const std::string& toml);

// The one value that the text is, with `origin` throughout, or nothing when it is not TOML or of a type that
// lab has not.
std::optional<Value> parse_toml_value(const Origin& origin, const std::string& toml);

// The parts of a dotted key: a."b.c" is {"a", "b.c"}. Nothing when the text is not a key.
std::optional<std::vector<std::string>> parse_toml_key(const std::string& key);

}  // namespace lab
