#pragma once
// Typed configuration: a struct, and a description of its fields that reads it, checks it, prints it and explains it.
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
// A struct whose description cannot be a member has a free function `void describe(lab::Fields<T>&)` in its namespace.

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include "lab/config/value.h"

namespace lab {

// A condition on a field's value, checked wherever the value came from. For arrays it holds for each element.
// `check` returns true when the value is allowed; `text` says which are: "above 0", "one of \"cnn\", \"toy\"".
struct Constraint {
  std::string text;
  std::function<bool(const Value&)> check;
  std::vector<std::string> names;  // one_of: the allowed names, for suggestions
};
Constraint above(double bound);
Constraint at_least(double bound);
Constraint below(double bound);
Constraint at_most(double bound);
Constraint between(double low, double high);  // both included
Constraint one_of(std::vector<std::string> names);
Constraint not_empty();

// What is known of one field without its struct.
struct FieldDescription {
  std::string name, type, help;        // type: "float", "integer", "boolean", "string", "array of integers", ...
  std::vector<Constraint> constraints;
  Value default_value;
};

// The values that a run really uses, each with its origin: what --print-config shows and config.toml holds.
struct ResolvedValue {
  std::string path;                    // "trainer.init.max_epochs"
  Value value;                         // origin.source "default" when nobody set it
};
using Resolved = std::vector<ResolvedValue>;

template <class T>
class Fields {
 public:
  // name, member, any number of constraints, help. Member types: bool, int64_t, double, std::string and std::vector of
  // these. An integer is taken where a float is wanted, not the other way round.
  template <class Member, class... Rest>
  Fields& operator()(std::string name, Member T::*member, const Rest&... constraints_then_help);
  // ... the rest of the class is the config layer's own
};

// Reads the table at `path` ("trainer.init"; absent: all defaults) into a T. Every unknown key (with the nearest known
// name), wrong type and value outside its constraints becomes a mistake; the values go to `resolved`.
template <class T>
T read_fields(const Table& root, const std::string& path, Resolved& resolved, Mistakes& mistakes);

// The fields of a T, for help and checks.
template <class T>
std::vector<FieldDescription> fields_of();

// One section of --help-config: each field with type, default, constraint and help, wrapped at 100 columns.
std::string help_text(const std::string& path, const std::vector<FieldDescription>& fields);

// Reports keys of the table at `path` that are not among `known`.
void refuse_unknown(const Table& root, const std::string& path, const std::vector<std::string>& known, Mistakes& mistakes);

// TOML text of all values; with origins, each line ends with a comment that says where the value came from.
std::string to_toml(const Resolved& resolved, bool with_origins);

}  // namespace lab
