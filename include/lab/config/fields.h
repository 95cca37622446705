#pragma once
// Typed configuration: a struct, and a description of its fields that reads it, checks it, prints it and
// explains it.
//
//   struct MnistConfig {
//     double learning_rate = 1.5e-3;
//     std::string model = "cnn";
//     static void describe(lab::Fields<MnistConfig>& f) {
//       f("learning_rate", &MnistConfig::learning_rate, lab::above(0), "step size of AdamW");
//       f("model", &MnistConfig::model, lab::one_of({"cnn", "toy"}), "which network");
//     }
//   };
//
// A struct whose description cannot be a member has a free function `void describe(lab::Fields<T>&)` in its
// namespace.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "lab/config/value.h"

namespace lab {

// A condition on a field's value, checked wherever the value came from, the default included. For arrays it
// holds for each element. `check` returns true when the value is allowed; `text` says which are: "above 0",
// "one of \"cnn\",
// \"toy\"", "not empty". Infinite and not-a-number values are outside of all bounds.
struct Constraint {
  std::string text = {};
  std::function<bool(const Value&)> check = {};
  std::vector<std::string> names = {};  // one_of: the allowed names, for suggestions
  bool of_whole_array = false;          // holds for an array itself, not for its elements
};
Constraint above(double bound);
Constraint at_least(double bound);
Constraint below(double bound);
Constraint at_most(double bound);
Constraint between(double low, double high);  // both included
Constraint one_of(std::vector<std::string> names);
Constraint not_empty();  // a string or array that has to be set

// What is known of one field without its struct.
struct FieldDescription {
  std::string name = {}, type = {},
              help = {};  // type: "float", "integer", "boolean", "string", "array of integers", ...
  std::vector<Constraint> constraints = {};
  Value default_value = {};
};

// The values that a run really uses, each with its origin: what --print-config shows and config.toml holds.
struct ResolvedValue {
  std::string path = {};  // "trainer.init.max_epochs"
  Value value = {};       // origin.source "default" when nobody set it
};
using Resolved = std::vector<ResolvedValue>;

// For fields where 1 and 1.0 say different things: one batch, or all of them.
using IntegerOrFloat = std::variant<int64_t, double>;
// For fields that may be switched on, or counted; or named, or counted; or switched on, or named.
using BooleanOrInteger = std::variant<bool, int64_t>;
using IntegerOrString = std::variant<int64_t, std::string>;
using BooleanOrString = std::variant<bool, std::string>;

namespace detail {

// Which TOML type a member has, and the way from one to the other.
template <class Member>
struct FieldType {
  static_assert(
      !sizeof(Member),
      "a config field is a bool, int64_t, double, std::string, one of two of these (as IntegerOrFloat), or a "
      "vector of these");
};

template <class Member>
struct PlainFieldType {
  static Value to_value(const Member& member) { return {member, {"default"}, {}}; }
  static Member from_value(const Value& value) { return std::get<Member>(value.data); }
};
template <>
struct FieldType<bool> : PlainFieldType<bool> {
  static std::string name() { return "boolean"; }
};
template <>
struct FieldType<int64_t> : PlainFieldType<int64_t> {
  static std::string name() { return "integer"; }
};
template <>
struct FieldType<double> : PlainFieldType<double> {
  static std::string name() { return "float"; }
};
template <>
struct FieldType<std::string> : PlainFieldType<std::string> {
  static std::string name() { return "string"; }
};
template <class One, class Other>
struct FieldType<std::variant<One, Other>> {
  static std::string name() { return FieldType<One>::name() + " or " + FieldType<Other>::name(); }
  static Value to_value(const std::variant<One, Other>& member) {
    return std::visit([](const auto& value) { return Value{value, {"default"}, {}}; }, member);
  }
  static std::variant<One, Other> from_value(const Value& value) {
    if (const auto* one = std::get_if<One>(&value.data)) return *one;
    return std::get<Other>(value.data);
  }
};

template <class Element>
struct FieldType<std::vector<Element>> {
  static std::string name() { return "array of " + FieldType<Element>::name() + "s"; }
  static Value to_value(const std::vector<Element>& member) {
    Array elements;
    for (const Element& element : member) elements.push_back(FieldType<Element>::to_value(element));
    return {std::move(elements), {"default"}, {}};
  }
  static std::vector<Element> from_value(const Value& value) {
    std::vector<Element> member;
    for (const Value& element : std::get<Array>(value.data))
      member.push_back(FieldType<Element>::from_value(element));
    return member;
  }
};

inline void add_to(FieldDescription& field, const Constraint& constraint) {
  field.constraints.push_back(constraint);
}
inline void add_to(FieldDescription& field, std::string_view help) { field.help = help; }

// One value per field, in their order and of their types; the default where there is none or a wrong one.
std::vector<Value> read_values(const Table& root, const std::string& path,
                               const std::vector<FieldDescription>& fields, Resolved& resolved,
                               Mistakes& mistakes);

}  // namespace detail

// The description of a T: its fields by name, in the order in which they are described.
template <class T>
class Fields {
 public:
  // name, member, any number of constraints, help. Member types: bool, int64_t, double, std::string, a
  // variant of two of these, and std::vector of these. An integer is taken where a float is wanted, not the
  // other way round.
  template <class Member, class... Rest>
  Fields& operator()(std::string name, Member T::*member, const Rest&... constraints_then_help) {
    using Type = detail::FieldType<Member>;
    FieldDescription field{.name = std::move(name), .type = Type::name()};
    (detail::add_to(field, constraints_then_help), ...);
    field.default_value = Type::to_value(T{}.*member);
    descriptions_.push_back(std::move(field));
    setters_.push_back([member](T& target, const Value& value) { target.*member = Type::from_value(value); });
    return *this;
  }

  const std::vector<FieldDescription>& descriptions() const { return descriptions_; }

  // One value for each field, in order.
  T filled_with(const std::vector<Value>& values) const {
    T target{};
    for (size_t i = 0; i < values.size(); ++i) setters_[i](target, values[i]);
    return target;
  }

 private:
  std::vector<FieldDescription> descriptions_;
  std::vector<std::function<void(T&, const Value&)>> setters_;
};

namespace detail {

template <class T>
Fields<T> described() {
  Fields<T> fields;
  if constexpr (requires { T::describe(fields); }) {
    T::describe(fields);
  } else {
    describe(fields);
  }
  return fields;
}

}  // namespace detail

// Reads the table at `path` ("trainer.init"; absent: all defaults) into a T. Every unknown key (with the
// nearest known name), wrong type and value outside its constraints becomes a mistake; the values go to
// `resolved`.
template <class T>
T read_fields(const Table& root, const std::string& path, Resolved& resolved, Mistakes& mistakes) {
  const auto fields = detail::described<T>();
  return fields.filled_with(detail::read_values(root, path, fields.descriptions(), resolved, mistakes));
}

// The fields of a T, for help and checks.
template <class T>
std::vector<FieldDescription> fields_of() {
  return detail::described<T>().descriptions();
}

// One section of --help-config: each field with type, default, constraint and help, wrapped at 100 columns.
std::string help_text(const std::string& path, const std::vector<FieldDescription>& fields);

// Reports keys of the table at `path` ("": the outermost) that are not among `known`, and a `path` that is no
// table.
void refuse_unknown(const Table& root, const std::string& path, const std::vector<std::string>& known,
                    Mistakes& mistakes);

// TOML text of all values; with origins, each line ends with a comment that says where the value came from.
std::string to_toml(const Resolved& resolved, bool with_origins);

}  // namespace lab
