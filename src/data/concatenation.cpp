// Datasets one after the other.
#include <algorithm>

#include "data/opened_samples.h"
#include "data/sample_check.h"
#include "lab/core/error.h"

namespace lab::detail {
namespace {

// Of "a.h5" and "b.h5": "a.h5 + b.h5 (from sample 6000 on)", so that an id tells the file.
std::string joined_name(const std::vector<Opened>& members) {
  std::string out = members.front()->name();
  int64_t ids = members.front()->ids();
  for (size_t m = 1; m < members.size(); ++m) {
    out += text(" + ", members[m]->name(), " (from sample ", ids, " on)");
    ids += members[m]->ids();
  }
  return out;
}

class ConcatenatedSamples : public OpenedSamples {
 public:
  explicit ConcatenatedSamples(std::vector<Opened> members)
      : OpenedSamples(joined_name(members)), members_(std::move(members)) {
    for (const Opened& member : members_) {
      firsts_.push_back(size_);
      first_ids_.push_back(ids_);
      size_ += member->size();
      ids_ += member->ids();
    }
    check_alike();
  }

  int64_t size() const override { return size_; }
  int64_t ids() const override { return ids_; }
  int64_t id(int64_t i) const override {
    const size_t m = member_of(i);
    return first_ids_[m] + members_[m]->id(i - firsts_[m]);
  }
  void read(int64_t i, Sample& sample, const Wanted& wanted) const override {
    const size_t m = member_of(i);
    members_[m]->read(i - firsts_[m], sample, wanted);
    sample.id += first_ids_[m];
  }
  std::string place(int64_t i) const override {
    const size_t m = member_of(i);
    return members_[m]->place(i - firsts_[m]);
  }
  std::string identity() const override {
    std::string out = text(size_, " samples of ", members_.size(), " datasets\n");
    for (size_t m = 0; m < members_.size(); ++m) out += text("number ", m, ":\n", members_[m]->identity());
    return out;
  }

 private:
  size_t member_of(int64_t i) const {
    return static_cast<size_t>(std::ranges::upper_bound(firsts_, i) - firsts_.begin()) - 1;
  }
  void check_alike() const {
    Sample sample;
    std::string first;
    for (const Opened& member : members_) {
      member->read(0, sample, {});
      const std::string its = parts_text(sample);
      if (first.empty()) first = its;
      if (its != first)
        throw DataError("the samples of ", member->name(), " are (", its, "), those of ",
                        members_.front()->name(), " (", first,
                        "); give both the same fields, or make them alike with map(...)");
    }
  }

  std::vector<Opened> members_;
  std::vector<int64_t> firsts_, first_ids_;
  int64_t size_ = 0, ids_ = 0;
};

struct ConcatNode : DatasetNode {
  std::vector<Node> members;
  ConcatNode(const std::string& name_, std::vector<Node> members_) : DatasetNode(name_, 0) {
    members = std::move(members_);
    for (const Node& member : members) {
      count = count < 0 || member->count < 0 ? -1 : count + member->count;
      caches = caches || member->caches;
      mapped_by = std::max(mapped_by, member->mapped_by);
    }
  }
  Opened open(Opening& opening) const override {
    std::vector<Opened> opened;
    for (const Node& member : members) opened.push_back(open_once(*member, opening));
    return std::make_shared<ConcatenatedSamples>(std::move(opened));
  }
  void add_files(std::vector<std::string>& paths) const override {
    for (const Node& member : members) member->add_files(paths);
  }
};

}  // namespace
}  // namespace lab::detail

namespace lab {

Dataset concat(std::vector<Dataset> datasets) {
  if (datasets.empty()) throw ConfigError("no datasets to concatenate; name one at least");
  std::vector<detail::Node> members;
  std::vector<std::string> names;
  for (const Dataset& dataset : datasets) {
    if (dataset.empty())
      throw ConfigError("dataset ", members.size(), " of ", datasets.size(),
                        " to concatenate is empty; name a file by hdf5(...), or leave it out");
    members.push_back(dataset.node());
    names.push_back(dataset.path());
  }
  if (members.size() == 1) return datasets.front();
  return Dataset(std::make_shared<detail::ConcatNode>(join(names, " + "), std::move(members)));
}

}  // namespace lab
