#pragma once
// From files and --set to one table of values.

#include <string>
#include <utility>
#include <vector>

#include "lab/config/value.h"

namespace lab {

// A config file and all that it extends, as bytes: what rank 0 reads and sends to the others, so that every
// rank works from the same. First: the config itself.
struct ConfigFiles {
  std::vector<std::pair<std::string, std::string>> files;  // path, bytes

  std::string to_bytes() const;
  static ConfigFiles from_bytes(const std::string& bytes);
};

// Reads the config and follows `extends` (a string or a list; relative to the file that says it). Throws
// InputNotFound (naming who extends it), ConfigError (cycle: the whole circle; over 1 MiB; absurd keys; TOML
// syntax error with file:line:column).
ConfigFiles read_config_files(const std::string& path);

// Merges: what is extended first, in order, then the file itself, then each KEY=VALUE of --set. Tables merge,
// arrays and everything else replace. A file that is reached twice takes part once, before all that extend
// it. `extends` itself is taken out. A VALUE that is not TOML, or is a date, is plain text. The files must
// have come from read_config_files. Throws ConfigError for a --set without '=', with a malformed key, or with
// a key that goes through a non-table.
Table merge_config(const ConfigFiles& files, const std::vector<std::string>& sets);

}  // namespace lab
