#include "lab/config/value.h"

#include <algorithm>

#include "lab/core/error.h"
#include "lab/core/text.h"

namespace lab {
namespace {

// A float is to be read back as a float: 3 becomes 3.0, 1e-05 and nan stay.
std::string toml_float(double value) {
  const std::string digits = shortest(value);
  return digits.find_first_not_of("-0123456789") == std::string::npos ? digits + ".0" : digits;
}

std::string toml_array(const Array& array) {
  std::vector<std::string> elements;
  for (const Value& element : array) elements.push_back(element.toml());
  return "[" + join(elements) + "]";
}

std::string toml_inline_table(const Table& table) {
  std::vector<std::string> entries;
  for (const auto& entry : table.entries) entries.push_back(toml_key(entry.key) + " = " + entry.value.toml());
  return entries.empty() ? "{}" : "{ " + join(entries) + " }";
}

struct TomlWriter {
  std::string operator()(bool value) const { return value ? "true" : "false"; }
  std::string operator()(int64_t value) const { return std::to_string(value); }
  std::string operator()(double value) const { return toml_float(value); }
  std::string operator()(const std::string& value) const { return lab::quoted(value); }
  std::string operator()(const Array& value) const { return toml_array(value); }
  std::string operator()(const Table& value) const { return toml_inline_table(value); }
};

}  // namespace

std::string Origin::text() const { return line > 0 ? lab::text(source, ":", line, ":", column) : source; }

const Table::Entry* Table::find(const std::string& key) const {
  const auto found = std::ranges::find(entries, key, &Entry::key);
  return found == entries.end() ? nullptr : &*found;
}

Table::Entry* Table::find(const std::string& key) {
  const auto found = std::ranges::find(entries, key, &Entry::key);
  return found == entries.end() ? nullptr : &*found;
}

std::string Value::type_name() const {
  static const char* const names[] = {"boolean", "integer", "float", "string", "array", "table"};
  return names[data.index()];
}

std::string Value::toml() const { return std::visit(TomlWriter{}, data); }

std::string Value::brief() const {
  constexpr size_t most = 80;
  std::string out = toml();
  if (out.size() <= most) return out;
  size_t end = most - 4;
  while (end > 0 && (static_cast<unsigned char>(out[end]) & 0xC0) == 0x80)
    --end;  // not inside a UTF-8 character
  return out.substr(0, end) + " ...";
}

std::string Value::shown() const { return "the " + type_name() + " " + brief(); }

std::string toml_key(const std::string& key) {
  const bool bare = std::ranges::all_of(key, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
  return bare && !key.empty() ? key : lab::quoted(key);
}

const Value* find(const Table& table, const std::string& dotted_path) {
  const size_t dot = dotted_path.find('.');
  const Table::Entry* entry = table.find(dotted_path.substr(0, dot));
  if (!entry || dot == std::string::npos) return entry ? &entry->value : nullptr;
  const auto* inner = std::get_if<Table>(&entry->value.data);
  return inner ? find(*inner, dotted_path.substr(dot + 1)) : nullptr;
}

void Mistakes::add(const Origin& origin, const std::string& message) {
  const std::string line = origin.text() + ": " + message;
  if (seen_.insert(line).second) lines_.push_back(line);
}

void Mistakes::throw_if_any() const {
  if (lines_.size() == 1) throw ConfigError(lines_.front());
  if (lines_.size() > 1)
    throw ConfigError(lines_.size(), " mistakes in the configuration:\n", join(lines_, "\n"));
}

}  // namespace lab
