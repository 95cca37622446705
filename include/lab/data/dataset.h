#pragma once
// A dataset as an experiment names it: a value that says where samples come from. Nothing is opened here.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "lab/data/own_samples.h"
#include "lab/data/transform.h"

namespace lab {
namespace detail {
struct DatasetNode;
}

// Samples of an HDF5 file or of your own making, and what is made of such datasets: each operation gives a
// new value and leaves this one as it is. How many samples there really are is known once it is opened
// (Source). What cannot be is a ConfigError (DataError where it depends on the data), when it is asked for or
// when it is opened; so is a dataset, or a part of one, without samples.
//
// No selection changes a sample's id, and so neither the random numbers of its transforms.
class Dataset {
 public:
  Dataset() = default;
  Dataset(std::string path, std::vector<std::string> fields);
  explicit Dataset(std::shared_ptr<const detail::DatasetNode> node);

  Dataset take(int64_t count) const;                // the first `count` samples of this one
  Dataset drop(int64_t count) const;                // all but the first `count`
  Dataset slice(int64_t first, int64_t end) const;  // samples [first, end)
  // The samples at these places, in this order. One that is picked twice is the same sample twice: it has the
  // same random numbers in an epoch.
  Dataset pick(std::vector<int64_t> indices) const;

  // Cuts it at random into as many parts as there are shares, which are above 0 and 1 in all (less: the rest
  // is left out). A part keeps the order that its samples have here. It depends on the seed and on the number
  // of samples alone, not on the seed of the run.
  std::vector<Dataset> split(std::vector<double> shares, uint64_t seed = 0) const;
  // The same, with all samples of a group in one part: those that have the same number or text as `field`, a
  // part or metadata. The parts come as near to their shares as whole groups allow. Each rank reads that
  // field of all samples once.
  std::vector<Dataset> split_by(const std::string& field, std::vector<double> shares,
                                uint64_t seed = 0) const;

  // The samples for which `keep` is true. `needs` names the parts and metadata that it looks at; where files
  // and selections of them lie below, only these are read and given to it. Each rank asks it once for each
  // sample when the dataset is opened: about a microsecond per sample and number on one core, with a map() or
  // samples of your own below what making all of them takes. `name` is for messages: "labels below 5".
  Dataset filter(std::string name, std::vector<std::string> needs,
                 std::function<bool(const Sample&)> keep) const;

  // Each sample as these transforms leave it. Their random numbers are a function of the sample's id alone,
  // the same in every epoch and run: what is to differ belongs into the plan's transforms, which come after.
  Dataset map(Transforms transforms) const;

  // Keeps samples as they come from here in memory, until they take `most_bytes` on a node; further ones are
  // made anew each time. Each rank keeps the samples that it meets, in an equal share of the bytes: with
  // shuffling every rank meets all of them in time, so that R ranks of a node want R times the bytes of one
  // for the same effect. All sets that are made of one cached dataset share it.
  Dataset cache(int64_t most_bytes) const;

  // Of a file, before anything else but take, drop and slice is made of it. With these fields as metadata:
  // numbers, one per sample, or texts of a fixed length.
  Dataset with_metadata(const std::vector<std::string>& fields) const;
  // Also this field where the file has it: labels that a prediction can be judged by. Its transforms must
  // allow for it.
  Dataset with_optional(std::string field) const;

  const std::string& path() const;                 // of a file; of others what messages name them by
  const std::vector<std::string>& fields() const;  // of a file, as the next two
  const std::vector<std::string>& optional_fields() const;
  int64_t first() const;
  int64_t count() const;  // samples, where that is known before it is opened; else -1
  bool empty() const { return node_ == nullptr; }

  std::vector<std::string> files() const;  // the data files of all its parts, each once
  bool caches() const;                     // whether there is a cache() in it
  const std::shared_ptr<const detail::DatasetNode>& node() const { return node_; }  // what Source opens

 private:
  std::shared_ptr<const detail::DatasetNode> node_;
};

// dataset = hdf5("data/mnist-train.h5", {"images", "labels"})
Dataset hdf5(std::string path, std::vector<std::string> fields);
// Samples of your own. `open` is called once on each rank when the dataset is opened.
Dataset own(std::string name, std::function<std::shared_ptr<const OwnSamples>()> open);
// One after the other. Their samples need the same parts: names, types, shapes.
Dataset concat(std::vector<Dataset> datasets);

}  // namespace lab
