#pragma once
// HOCON as ClearML's own tools write and read it: the format of clearml.conf.

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace lab::detail {

using Environment = std::map<std::string, std::string>;

// A value of a file after all substitutions. Text, numbers and booleans are kept as they were written: a key
// of digits stays what it is.
struct Hocon {
  enum class Kind { null, text, list, object };
  Kind kind = Kind::null;
  std::string text = {};                                    // of a text
  bool quoted = false;                                      // a text that was in quotes: "true" is not true
  std::vector<Hocon> items = {};                            // of a list
  std::vector<std::pair<std::string, Hocon>> members = {};  // of an object, as first written
  std::string place = {};                                   // file:line:column, for messages

  const Hocon* member(const std::string& key) const;
  Hocon* member(const std::string& key);
  // What lies at a dotted path below this object, or nullptr.
  const Hocon* find(const std::string& dotted_path) const;
};

// Reads a whole file, which is an object. ${NAME} is a path of this file or else a variable of `environment`;
// ${?NAME} may be neither. Objects written twice are merged, of other values the later wins. `include` is
// refused. Throws ConfigError with source:line:column; values of the file are not in its message.
Hocon parse_hocon(const std::string& source, const std::string& text, const Environment& environment);

// Lays `over` upon `base`: objects are merged, of other values that of `over` wins.
void merge(Hocon& base, const Hocon& over);

}  // namespace lab::detail
