#pragma once
// A dataset as an experiment names it: a value that says where samples come from. Nothing is opened here.

#include <cstdint>
#include <string>
#include <vector>

namespace lab {

// Samples [first, first + count) of the named fields of one HDF5 file. count < 0: to the end.
// How many samples there really are is known once the file's layout was read (Source).
class Dataset {
 public:
  Dataset() = default;
  Dataset(std::string path, std::vector<std::string> fields);

  Dataset take(int64_t count) const;  // the first `count` samples of this one
  Dataset drop(int64_t count) const;  // all but the first `count`

  const std::string& path() const { return path_; }
  const std::vector<std::string>& fields() const { return fields_; }
  // Also this field where the file has it: labels that a prediction can be judged by. Its transforms must
  // allow for it.
  Dataset with_optional(std::string field) const;
  const std::vector<std::string>& optional_fields() const { return optional_; }

  int64_t first() const { return first_; }
  int64_t count() const { return count_; }  // -1: to the end
  bool empty() const { return path_.empty(); }

 private:
  std::string path_;
  std::vector<std::string> fields_, optional_;
  int64_t first_ = 0;
  int64_t count_ = -1;
};

// dataset = hdf5("data/mnist-train.h5", {"images", "labels"})
Dataset hdf5(std::string path, std::vector<std::string> fields);

}  // namespace lab
