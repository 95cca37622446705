#pragma once
// What a Dataset becomes when it is opened: a tree of the same shape, whose leaves are files and samples of
// experiments' own.

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "lab/data/dataset.h"
#include "lab/data/layout.h"
#include "lab/data/sample.h"

namespace lab::detail {

// How much of a sample is asked for. More may be given; what is not asked for need not be read.
struct Wanted {
  const std::vector<std::string>* names =
      nullptr;  // null: everything; else parts and metadata of these names
  bool metadata_only = false;
  bool everything() const { return names == nullptr && !metadata_only; }
  bool part(const std::string& name) const { return !metadata_only && metadata(name); }
  bool metadata(const std::string& name) const {
    return names == nullptr || std::find(names->begin(), names->end(), name) != names->end();
  }
};

// Immutable, or locked: several threads may read. Communicates with nobody.
class OpenedSamples {
 public:
  virtual ~OpenedSamples() = default;
  virtual int64_t size() const = 0;         // at least 1
  virtual int64_t id(int64_t i) const = 0;  // of sample i
  virtual int64_t ids() const = 0;          // all ids are in [0, ids)
  // Fills id, parts and metadata with sample i of [0, size()), whatever was there before; the sample's
  // precision says what floats transforms are to make.
  virtual void read(int64_t i, Sample& sample, const Wanted& wanted) const = 0;
  virtual std::string place(int64_t i) const = 0;  // of sample i: "sample 3 of b.h5"
  virtual std::string identity() const = 0;        // lines, each with its end (Source::identity)
  const std::string& name() const { return name_; }

 protected:
  explicit OpenedSamples(std::string name) : name_(std::move(name)) {}

 private:
  std::string name_;
};
using Opened = std::shared_ptr<const OpenedSamples>;

// As many samples as others, in their order: what changes or keeps each of them.
class SamplesOfOne : public OpenedSamples {
 public:
  int64_t size() const override { return from_->size(); }
  int64_t id(int64_t i) const override { return from_->id(i); }
  int64_t ids() const override { return from_->ids(); }
  std::string place(int64_t i) const override { return from_->place(i); }
  std::string identity() const override { return from_->identity(); }

 protected:
  explicit SamplesOfOne(Opened from) : OpenedSamples(from->name()), from_(std::move(from)) {}
  const OpenedSamples& from() const { return *from_; }

 private:
  Opened from_;
};

// Which parts of a split() the samples of its dataset are in; -1: none.
struct SplitPlan;
using Assignment = std::shared_ptr<const std::vector<int8_t>>;

// What opening needs, and what it has opened: datasets that are made of the same one share it.
struct Opening {
  const std::map<std::string, FileLayout>& layouts;
  int64_t ranks_on_node = 1;
  std::map<const DatasetNode*, Opened> opened = {};
  std::map<const SplitPlan*, Assignment> assignments = {};
};

// A Dataset's value. Immutable.
struct DatasetNode {
  std::string name;        // as messages know it before it is opened
  int64_t count = -1;      // samples, where that is known by now
  bool caches = false;     // whether it, or one that it is made of, is a cache
  uint64_t mapped_by = 0;  // how many transforms of map() lie one behind the other in it
  DatasetNode(std::string name_, int64_t count_) : name(std::move(name_)), count(count_) {}
  virtual ~DatasetNode() = default;
  virtual Opened open(Opening& opening) const = 0;
  virtual void add_files(std::vector<std::string>& paths) const = 0;
};
using Node = std::shared_ptr<const DatasetNode>;

// A node that is made of one other.
struct NodeOfOne : DatasetNode {
  Node child;
  NodeOfOne(Node child_, const std::string& suffix, int64_t count_)
      : DatasetNode(child_->name + suffix, count_), child(std::move(child_)) {
    caches = child->caches;
    mapped_by = child->mapped_by;
  }
  void add_files(std::vector<std::string>& paths) const override { child->add_files(paths); }
};

// A stretch of the samples of one file.
struct FileNode : DatasetNode {
  std::vector<std::string> fields, optional, metadata;
  int64_t first = 0;
  FileNode(std::string path, std::vector<std::string> fields_);
  Opened open(Opening& opening) const override;
  void add_files(std::vector<std::string>& paths) const override;
};

// Opens it unless that has been done.
Opened open_once(const DatasetNode& node, Opening& opening);

// Samples [first, first + count) of any node; count < 0: to the end.
Node stretch_of(Node child, int64_t first, int64_t count);

// How many samples that are of the `all` that `name` has. Throws DataError where there are none, or fewer.
int64_t checked_stretch(const std::string& name, int64_t all, int64_t first, int64_t count);

// The opened samples `rows` of `from`, in that order. Throws DataError where there are none: `why_none` says
// what is to be done.
Opened selected(const Opened& from, std::vector<int64_t> rows, const std::string& suffix,
                const std::string& why_none);

// Throws ConfigError where samples have no parts or metadata of these names, which `who` needs.
void check_needs(const OpenedSamples& samples, const std::vector<std::string>& needs, const std::string& who);

}  // namespace lab::detail
