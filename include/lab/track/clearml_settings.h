#pragma once
// Where a ClearML server is and how to log in: from environment variables and clearml.conf, as ClearML's own
// SDK finds it.

#include <map>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

namespace lab {

// A text that is never shown: printed it is "***", or nothing when there is none.
class Secret {
 public:
  Secret() = default;
  explicit Secret(std::string value) : value_(std::move(value)) {}
  const std::string& reveal() const { return value_; }
  bool empty() const { return value_.empty(); }
  friend std::ostream& operator<<(std::ostream& out, const Secret& secret) {
    return out << (secret.empty() ? "" : "***");
  }

 private:
  std::string value_;
};

struct ClearmlSettings {
  // Without a / at the end. web and files are "" where they are not given and cannot be told from the others.
  std::string api_host, web_host, files_host;
  Secret access_key, secret_key;  // both or none
  Secret token;                   // a ready one; goes before the keys
  bool verify_tls = true;
  std::string ca_path;             // file or folder of certificates to trust; "": the system's
  std::string http_proxy;          // HTTP_PROXY where only that is set; "": see HttpOptions
  std::string default_output_uri;  // where models go; "": nothing said
  std::string worker;
  std::string cache_folder;  // "~" and variables replaced

  // Whether there is anything to log in with. Where not, everything else still has its value.
  bool configured() const { return !token.empty() || !secret_key.empty(); }
};

// All that the settings depend on.
struct ClearmlSources {
  struct File {
    std::string path, text;
  };
  std::map<std::string, std::string> environment;
  std::vector<File> files;  // the later goes before the earlier
  std::string host_name;    // the worker's name where none is given
};

// The files that are looked at, whether they are there or not: CLEARML_CONFIG_FILE alone if it is set, else
// ~/trains.conf and ~/clearml.conf.
std::vector<std::string> clearml_files(const std::map<std::string, std::string>& environment);

// Reads this process's environment and those of the files that are there, pipes too. Throws IoError for one
// that is there and cannot be read, ConfigError for one that CLEARML_CONFIG_FILE names and that is no file,
// and for a folder of a file's name, unless the variables hold all keys or CLEARML_IGNORE_MISSING_CONFIG is
// set. `offline`: regular files only, and without what else there is to say of them.
ClearmlSources clearml_sources(bool offline = false);

// A variable goes before the files, they go before the defaults. Throws ConfigError, which names the file or
// variable and never shows a key.
ClearmlSettings clearml_settings(const ClearmlSources& sources);

}  // namespace lab
