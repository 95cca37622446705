#pragma once
// Where fetched models lie, under which names, and whether what lies there is what was fetched.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "lab/track/clearml_fetch.h"

namespace lab::detail {

// A name as a file may have it: letters, digits, "_.-+= "; anything else becomes '_', a '.' or blank at the
// front too. At most `most` bytes. "" becomes "_".
std::string file_name(const std::string& name, size_t most);

// "safetensors", "ckpt", "pt" or "pth", as the address ends, without what stands behind '?' or '#'; "bin" for
// any other ending: readers look into the file.
std::string weights_ending(const std::string& uri);

// By what a file's bytes are known.
struct FileSum {
  int64_t bytes = 0;
  std::string checksum = {};  // XXH3-64, 16 hex digits
  bool operator==(const FileSum&) const = default;
};
// nullopt: it cannot be read whole, or was called off on the way.
std::optional<FileSum> sum_of(
    const std::string& path, const std::function<bool()>& called_off = [] { return false; });

// The path of the record beside a kept file.
std::string record_of(const std::string& path);

// What a kept file is.
struct KeptModel {
  std::string task_name, model_id, uri, last_update;
  FileSum sum = {};
};

// The place of one model in the cache; a value.
class CachePlace {
 public:
  CachePlace(const std::string& root, const ModelOfTask& model, const std::string& task_name,
             const std::string& ending);
  // The newest place, whatever the task was called, that has a record; nullopt where there is none.
  static std::optional<CachePlace> newest(const std::string& root, const ModelOfTask& model);

  const std::string& path() const { return path_; }
  // The record, if it is one of this model and the file is as it says.
  std::optional<KeptModel> whole() const;
  // Makes the folder. Returns the name under which the file is to be written first. Throws IoError.
  std::string prepare() const;
  // Puts the finished file in its place, and the record beside it. Throws IoError.
  void keep(const std::string& temporary, const KeptModel& model) const;

 private:
  explicit CachePlace(ModelOfTask model, std::string path);
  ModelOfTask model_;
  std::string path_;
};

}  // namespace lab::detail
