#pragma once
// An opened dataset: knows how many samples there are and reads any of them by plain reads at known offsets.

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lab/data/dataset.h"
#include "lab/data/layout.h"
#include "lab/data/sample.h"

namespace lab {
namespace detail {
class OpenedSamples;
}

// Immutable but for its caches, which are locked: several threads may read. Owns one file descriptor for each
// file and stretch of it, and shares with others of open_datasets() what their datasets share. Communicates
// with nobody; each rank opens its own.
class Source {
 public:
  // Of one file. Throws DataError when a field is missing, fields differ in their first dimension, the
  // dataset asks for no samples or more than there are, or the file is shorter than its layout says;
  // ConfigError for places and names that are not there; InputNotFound or IoError when it cannot be opened.
  Source(const Dataset& dataset, const FileLayout& layout);
  explicit Source(std::shared_ptr<const detail::OpenedSamples> samples) : samples_(std::move(samples)) {}

  int64_t size() const;                 // samples of the dataset, after take and drop
  int64_t file_index(int64_t i) const;  // of sample i: its index in the file, which is its id
  // Fills sample.id, its parts and metadata with sample i in [0, size()): shape, type and bytes as stored, in
  // native byte order. What transforms of the dataset make of it has sample.precision.
  void read(int64_t i, Sample& sample) const;
  // Of sample i, without reading its parts where it comes from files and selections of them.
  Metadata metadata(int64_t i) const;
  // What must be the same on all ranks, in lines: fields, how many samples and which, the size of the files
  // and a checksum of some of their bytes (64 pieces, spread over each); never the path. Reads the file;
  // IoError.
  std::string identity() const;
  // As messages name it: "data/mnist-train.h5".
  const std::string& path() const;
  std::string place(int64_t i) const;  // of sample i: "sample 17 of data/mnist-train.h5"

 private:
  std::shared_ptr<const detail::OpenedSamples> samples_;
};

// Opens these datasets, given the layout of each of their files() by its path; null for an empty one. A cache
// of theirs gets its bytes divided by `ranks_on_node`. Throws what Source does.
std::vector<std::shared_ptr<const Source>> open_datasets(const std::vector<Dataset>& datasets,
                                                         const std::map<std::string, FileLayout>& layouts,
                                                         int64_t ranks_on_node = 1);

}  // namespace lab
