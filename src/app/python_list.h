#pragma once
// Lists as Python's str() writes them, which JSON does not read.

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace lab {

// "['x', 'it\'s', 2, [True]]": of strings, numbers, True, False and lists of these. Nothing where it is no
// such list.
std::optional<nlohmann::ordered_json> python_list(const std::string& text);

}  // namespace lab
