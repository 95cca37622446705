#include "lab/config/fields.h"

#include <algorithm>
#include <optional>

#include "lab/core/error.h"
#include "lab/core/text.h"

namespace lab {
namespace {

constexpr std::string_view array_of = "array of ";

std::string with_article(const std::string& noun) {
  return (std::string_view("aeiou").find(noun.front()) == std::string_view::npos ? "a " : "an ") + noun;
}

// Type of the elements of "array of integers": "integer". Empty for what is no array.
std::string element_type(const std::string& type) {
  return type.starts_with(array_of) ? type.substr(array_of.size(), type.size() - array_of.size() - 1) : "";
}

// The value as one of `type` (no array), or nothing when it is none.
std::optional<Value> converted(const Value& given, const std::string& type) {
  const auto* integer = std::get_if<int64_t>(&given.data);
  Value out{given.data, given.origin, {}};
  if (given.type_name() == type) return out;
  if (const size_t middle = type.find(" or "); middle != std::string::npos) {
    const std::string one = type.substr(0, middle), other = type.substr(middle + 4);
    if (given.type_name() == one || given.type_name() == other) return out;
    return converted(given, one == "string" ? one : other);  // --set name=plain
  }
  if (type == "float" && integer) {
    out.data = static_cast<double>(*integer);
    return out;
  }
  if (type == "string" && !given.plain.empty()) {  // --set name=123
    out.data = given.plain;
    return out;
  }
  return std::nullopt;
}

// Reads one field of a section; what is wrong becomes a mistake.
class FieldReader {
 public:
  FieldReader(std::string path, const FieldDescription& field, Mistakes& mistakes)
      : path_(std::move(path)), field_(field), mistakes_(mistakes) {}

  Value read(const Table::Entry* entry) {
    const Value& given = entry ? entry->value : field_.default_value;
    std::optional<Value> value =
        field_.type.starts_with(array_of) ? read_array(given) : read_scalar(path_, given, field_.type);
    if (!value) return field_.default_value;
    const bool is_array = std::holds_alternative<Array>(value->data);
    for (const Constraint& constraint : field_.constraints)
      if (!is_array || constraint.of_whole_array) check(constraint, path_, *value, given);
    return std::move(*value);
  }

 private:
  std::optional<Value> read_scalar(const std::string& name, const Value& given, const std::string& type) {
    std::optional<Value> value = converted(given, type);
    if (!value)
      mistakes_.add(given.origin, text(name, " wants ", with_article(type), ", got ", given.shown()));
    return value;
  }

  std::optional<Value> read_array(const Value& given) {
    const auto* elements = std::get_if<Array>(&given.data);
    if (!elements) {
      mistakes_.add(given.origin, text(path_, " wants ", with_article(field_.type), ", got ", given.shown()));
      return std::nullopt;
    }
    Array out;
    for (size_t i = 0; i < elements->size(); ++i) {
      const std::string name = text(path_, "[", i, "]");
      std::optional<Value> value = read_scalar(name, elements->at(i), element_type(field_.type));
      if (!value) continue;
      for (const Constraint& constraint : field_.constraints)
        if (!constraint.of_whole_array) check(constraint, name, *value, elements->at(i));
      out.push_back(std::move(*value));
    }
    if (out.size() != elements->size()) return std::nullopt;
    return Value{std::move(out), given.origin, {}};
  }

  // The value is shown as it was given: -1, even where it is read as -1.0.
  void check(const Constraint& constraint, const std::string& name, const Value& value, const Value& given) {
    if (constraint.check(value)) return;
    const auto* string = std::get_if<std::string>(&value.data);
    const bool negative = constraint.text.starts_with("not ");  // not "is not not empty"
    std::string message = text(name, " = ", (string ? value : given).brief(), negative ? " is " : " is not ",
                               constraint.text.substr(negative ? 4 : 0));
    if (const std::string near = string ? nearest_name(*string, constraint.names) : ""; !near.empty())
      message += "; did you mean " + lab::quoted(near) + "?";
    if (given.origin.source == "default") message += text("; set ", path_, " in the config or with --set");
    mistakes_.add(given.origin, message);
  }

  std::string path_;
  const FieldDescription& field_;
  Mistakes& mistakes_;
};

// The table at the path, or nullptr. A path that leads to or through something else is a mistake.
const Table* find_section(const Table& root, const std::string& path, Mistakes& mistakes) {
  const Table* at = &root;
  for (size_t end = 0; !path.empty() && end != std::string::npos;) {
    const size_t begin = end == 0 ? 0 : end + 1;
    end = path.find('.', begin);
    const Table::Entry* entry = at->find(path.substr(begin, end - begin));
    if (!entry) return nullptr;
    at = std::get_if<Table>(&entry->value.data);
    if (!at) {
      const std::string name = path.substr(0, end);
      mistakes.add(entry->value.origin, text(name, " wants a table, got ", entry->value.shown(),
                                             "; write its values under [", name, "]"));
      return nullptr;
    }
  }
  return at;
}

void refuse_unknown_keys(const Table& table, const std::string& path, const std::vector<std::string>& known,
                         Mistakes& mistakes) {
  const std::string place = path.empty() ? " at the top level" : " in [" + path + "]";
  for (const Table::Entry& entry : table.entries) {
    if (std::ranges::find(known, entry.key) != known.end()) continue;
    const std::string near = nearest_name(entry.key, known);
    const std::string way_on = !near.empty()   ? "did you mean " + lab::quoted(near) + "?"
                               : known.empty() ? "there are no keys here"
                                               : "known keys: " + join(known);
    mistakes.add(entry.origin, text("unknown key ", lab::quoted(entry.key), place, "; ", way_on));
  }
}

}  // namespace

void refuse_unknown(const Table& root, const std::string& path, const std::vector<std::string>& known,
                    Mistakes& mistakes) {
  if (const Table* table = find_section(root, path, mistakes))
    refuse_unknown_keys(*table, path, known, mistakes);
}

std::vector<Value> detail::read_values(const Table& root, const std::string& path,
                                       const std::vector<FieldDescription>& fields, Resolved& resolved,
                                       Mistakes& mistakes) {
  const Table* section = find_section(root, path, mistakes);
  std::vector<std::string> names;
  for (const FieldDescription& field : fields) {
    if (std::ranges::find(names, field.name) != names.end())
      throw Bug("the field ", lab::quoted(field.name), " of [", path, "] is described twice; take one out");
    names.push_back(field.name);
  }
  if (section) refuse_unknown_keys(*section, path, names, mistakes);

  std::vector<Value> values;
  for (const FieldDescription& field : fields) {
    const std::string field_path = path.empty() ? field.name : path + "." + field.name;
    const Table::Entry* entry = section ? section->find(field.name) : nullptr;
    values.push_back(FieldReader(field_path, field, mistakes).read(entry));
    resolved.push_back({field_path, values.back()});
  }
  return values;
}

}  // namespace lab
