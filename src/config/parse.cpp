#include "config/parse.h"

#include <toml++/toml.h>

#include <algorithm>

#include "lab/core/error.h"

namespace lab {
namespace {

// Turns the parser's tree into ours. Origins are places in `source`, or `fixed` throughout where there is no
// file.
class Converter {
 public:
  Converter(std::string source, const Origin* fixed) : source_(std::move(source)), fixed_(fixed) {}

  Table table(const toml::table& from) {
    Table out;
    for (const auto& [key, node] : from)
      out.entries.push_back({std::string(key.str()), place(key.source()), value(node)});
    // The parser sorts by name; where the keys stand in the file says in which order they were written.
    std::ranges::stable_sort(out.entries, {}, [](const Table::Entry& entry) {
      return std::pair(entry.origin.line, entry.origin.column);
    });
    return out;
  }

  const Mistakes& mistakes() const { return mistakes_; }

 private:
  Origin place(const toml::source_region& region) const {
    if (fixed_) return *fixed_;
    return {source_, static_cast<int>(region.begin.line), static_cast<int>(region.begin.column)};
  }

  Value value(const toml::node& node) {
    Value out{.origin = place(node.source())};
    if (const auto* boolean = node.as_boolean()) {
      out.data = boolean->get();
    } else if (const auto* integer = node.as_integer()) {
      out.data = integer->get();
    } else if (const auto* number = node.as_floating_point()) {
      out.data = number->get();
    } else if (const auto* string = node.as_string()) {
      out.data = string->get();
    } else if (const auto* array = node.as_array()) {
      Array elements;
      for (const auto& element : *array) elements.push_back(value(element));
      out.data = std::move(elements);
    } else if (const auto* inner = node.as_table()) {
      out.data = table(*inner);
    } else {
      mistakes_.add(out.origin, "dates and times are no values of lab; put it in quotes to make it a string");
    }
    return out;
  }

  std::string source_;
  const Origin* fixed_;
  Mistakes mistakes_;
};

}  // namespace

Table parse_toml(const std::string& source, const std::string& toml) {
  refuse_absurd_toml(source, toml);
  try {
    Converter converter(source, nullptr);
    Table out = converter.table(toml::parse(toml));
    converter.mistakes().throw_if_any();
    return out;
  } catch (const toml::parse_error& error) {
    const auto& begin = error.source().begin;
    throw ConfigError(source, ":", begin.line, ":", begin.column, ": ", error.description(),
                      "; fix the TOML syntax there");
  }
}

std::optional<Value> parse_toml_value(const Origin& origin, const std::string& toml) {
  try {
    const std::string line = "value = " + toml;
    refuse_absurd_toml(origin.source, line);
    Converter converter(origin.source, &origin);
    Table table = converter.table(toml::parse(line));
    if (table.entries.size() != 1 || converter.mistakes().any()) return std::nullopt;
    return std::move(table.entries.front().value);
  } catch (const toml::parse_error&) {
    return std::nullopt;
  } catch (const ConfigError&) {
    return std::nullopt;
  }
}

std::optional<std::vector<std::string>> parse_toml_key(const std::string& key) {
  // A line break could smuggle in a header, and then the key would be another one.
  if (key.find_first_of("\n\r") != std::string::npos) return std::nullopt;
  try {
    const std::string line = key + " = true";
    refuse_absurd_toml("", line);
    const toml::table table = toml::parse(line);
    std::vector<std::string> parts;
    for (const toml::table* at = &table; at && !at->empty(); at = at->begin()->second.as_table())
      parts.emplace_back(at->begin()->first.str());
    if (parts.empty()) return std::nullopt;  // nothing but a comment
    return parts;
  } catch (const toml::parse_error&) {
    return std::nullopt;
  } catch (const ConfigError&) {
    return std::nullopt;
  }
}

}  // namespace lab
