#pragma once
// An opened dataset: knows how many samples there are and reads any of them by plain reads at known offsets.

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lab/data/dataset.h"
#include "lab/data/layout.h"
#include "lab/data/sample.h"

namespace lab {

// Immutable but for its chunk cache, which is locked: several threads may read. Owns one file descriptor.
// Communicates with nobody; each rank opens its own.
class Source {
 public:
  // Throws DataError when a field is missing, fields differ in their first dimension, the dataset asks for
  // no samples or more than there are, or the file is shorter than its layout says; InputNotFound or IoError
  // when it cannot be opened.
  Source(const Dataset& dataset, const FileLayout& layout);
  ~Source();
  Source(Source&&) noexcept;

  int64_t size() const;                 // samples of the dataset, after take and drop
  int64_t file_index(int64_t i) const;  // of sample i: its index in the file
  // Fills sample.id and its parts with sample i in [0, size()): shape, type and bytes as stored, in native
  // byte order.
  void read(int64_t i, Sample& sample) const;
  // What must be the same on all ranks, in lines: fields, how many samples, the size of the file and a
  // checksum of some of its bytes (64 pieces, spread over it); never the path. Reads the file; IoError.
  std::string identity() const;
  // As messages name it: "data/mnist-train.h5".
  const std::string& path() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lab
