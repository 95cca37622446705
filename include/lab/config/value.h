#pragma once
// Configuration values that remember where they came from.

#include <cstdint>
#include <set>
#include <string>
#include <variant>
#include <vector>

namespace lab {

// "configs/mnist.toml:12:1", "--set config.batch_size", "default".
struct Origin {
  std::string source = {};
  int line = 0, column = 0;  // 0: no place within the source
  std::string text() const;  // source:line:column
};

struct Value;
using Array = std::vector<Value>;

// Keeps the order in which keys were written.
struct Table {
  struct Entry;
  std::vector<Entry> entries;
  const Entry* find(const std::string& key) const;
  Entry* find(const std::string& key);
};

struct Value {
  std::variant<bool, int64_t, double, std::string, Array, Table> data = {};
  Origin origin = {};
  std::string plain = {};         // from --set: the text as typed, for keys that turn out to be strings
  std::string type_name() const;  // "boolean", "integer", "float", "string", "array", "table"
  std::string toml() const;       // as it would be written in a file
  std::string brief() const;      // toml(), cut short for messages
  std::string shown() const;      // the string "many"
};

struct Table::Entry {
  std::string key = {};
  Origin origin = {};  // of the key
  Value value = {};
};

// A key as it would be written in a file: quoted where it has to be.
std::string toml_key(const std::string& key);

// The value at a dotted path, or nullptr.
const Value* find(const Table& table, const std::string& dotted_path);

// All that is wrong, gathered so that it can be reported in one go.
class Mistakes {
 public:
  void add(const Origin& origin, const std::string& message);  // the same mistake twice counts once
  void throw_if_any() const;                                   // ConfigError with one line per mistake
  bool any() const { return !lines_.empty(); }
  const std::vector<std::string>& lines() const { return lines_; }

 private:
  std::vector<std::string> lines_;
  std::set<std::string> seen_;
};

}  // namespace lab
