// Some of the samples of a dataset: stretches, picked ones, and those that a filter keeps.
#include <xxhash.h>

#include <numeric>

#include "data/opened_samples.h"
#include "data/sample_check.h"
#include "lab/core/error.h"

namespace lab::detail {
namespace {

// Samples `rows` of others, in that order.
class SelectedSamples : public OpenedSamples {
 public:
  SelectedSamples(Opened from, std::vector<int64_t> rows, const std::string& suffix)
      : OpenedSamples(from->name() + suffix), from_(std::move(from)), rows_(std::move(rows)) {}

  int64_t size() const override { return std::ssize(rows_); }
  int64_t id(int64_t i) const override { return from_->id(row(i)); }
  int64_t ids() const override { return from_->ids(); }
  void read(int64_t i, Sample& sample, const Wanted& wanted) const override {
    from_->read(row(i), sample, wanted);
  }
  std::string place(int64_t i) const override { return from_->place(row(i)); }
  std::string identity() const override {
    return text(from_->identity(), size(), " of these, whose places have the hash ",
                XXH3_64bits(rows_.data(), rows_.size() * sizeof rows_.front()), '\n');
  }

 private:
  int64_t row(int64_t i) const { return rows_[static_cast<size_t>(i)]; }

  Opened from_;
  std::vector<int64_t> rows_;
};

struct StretchNode : NodeOfOne {
  int64_t first = 0;
  StretchNode(Node of, int64_t first_, int64_t count_)
      : NodeOfOne(std::move(of), "", count_), first(first_) {}
  Opened open(Opening& opening) const override {
    const Opened from = open_once(*child, opening);
    std::vector<int64_t> rows(static_cast<size_t>(checked_stretch(from->name(), from->size(), first, count)));
    std::iota(rows.begin(), rows.end(), first);
    return selected(from, std::move(rows), "", "");
  }
};

void check_index(const std::string& name, const std::vector<int64_t>& indices, size_t place,
                 int64_t samples) {
  const int64_t index = indices[place];
  if (index >= 0 && (samples < 0 || index < samples)) return;
  throw ConfigError("cannot pick sample ", index, " (entry ", place, " of the list) of ", name,
                    index < 0 ? "; the first one is 0"
                    : samples == 1
                        ? ", which has one sample; the only one is 0"
                        : text(", which has ", samples, " samples; the last one is ", samples - 1));
}

struct PickNode : NodeOfOne {
  std::vector<int64_t> indices;
  PickNode(Node of, std::vector<int64_t> indices_)
      : NodeOfOne(std::move(of), text(" (", indices_.size(), " picked)"), std::ssize(indices_)),
        indices(std::move(indices_)) {
    if (indices.empty()) throw ConfigError("no samples of ", child->name, " were picked; pick some");
    check_all(child->count);
  }
  Opened open(Opening& opening) const override {
    const Opened from = open_once(*child, opening);
    check_all(from->size());
    return selected(from, indices, text(" (", indices.size(), " picked)"), "");
  }
  void check_all(int64_t samples) const {
    for (size_t place = 0; place < indices.size(); ++place) check_index(child->name, indices, place, samples);
  }
};

struct FilterNode : NodeOfOne {
  std::string what;
  std::vector<std::string> needs;
  std::function<bool(const Sample&)> keep;
  FilterNode(Node of, std::string what_, std::vector<std::string> needs_,
             std::function<bool(const Sample&)> keep_)
      : NodeOfOne(std::move(of), text(" (", what_, ")"), -1),
        what(std::move(what_)),
        needs(std::move(needs_)),
        keep(std::move(keep_)) {
    if (!keep) throw ConfigError("the filter '", what, "' of ", child->name, " has no function; give it one");
    if (needs.empty())
      throw ConfigError("the filter '", what, "' of ", child->name,
                        " looks at nothing; name the parts and metadata that it needs");
  }
  Opened open(Opening& opening) const override {
    const Opened from = open_once(*child, opening);
    check_needs(*from, needs, text("the filter '", what, "'"));
    std::vector<int64_t> rows;
    Sample sample;
    for (int64_t i = 0; i < from->size(); ++i)
      if (keeps(*from, i, sample)) rows.push_back(i);
    return selected(from, std::move(rows), text(" (", what, ")"), "; keep some");
  }
  bool keeps(const OpenedSamples& from, int64_t i, Sample& sample) const {
    from.read(i, sample, {.names = &needs});
    return placed([&] { return text("the filter '", what, "' on ", from.place(i), ": "); },
                  [&] { return keep(sample); });
  }
};

}  // namespace

Node stretch_of(Node child, int64_t first, int64_t count) {
  if (const auto* outer = dynamic_cast<const StretchNode*>(child.get()))  // one stretch, as messages count it
    return std::make_shared<StretchNode>(outer->child, outer->first + first, count);
  return std::make_shared<StretchNode>(std::move(child), first, count);
}

int64_t checked_stretch(const std::string& name, int64_t all, int64_t first, int64_t count) {
  if (first >= all)
    throw DataError(name, " has ", all, " samples; the dataset begins at sample ", first,
                    " of it, where none are left: use fewer before");
  const int64_t size = count < 0 ? all - first : count;
  if (size == 0) throw DataError("0 samples of ", name, " were asked for; it has ", all, ": ask for some");
  if (size > all - first)
    throw DataError(size, " samples of ", name, first ? text(" from sample ", first, " on") : "",
                    " were asked for, but it has ", all - first, first ? " there" : "",
                    "; ask for that many at most");
  return size;
}

Opened selected(const Opened& from, std::vector<int64_t> rows, const std::string& suffix,
                const std::string& why_none) {
  if (rows.empty())
    throw DataError(from->name(), suffix, " is without samples: none of ", from->size(), " were chosen",
                    why_none);
  return std::make_shared<SelectedSamples>(from, std::move(rows), suffix);
}

void check_needs(const OpenedSamples& samples, const std::vector<std::string>& needs,
                 const std::string& who) {
  Sample sample;
  samples.read(0, sample, {});
  std::vector<std::string> names;
  for (const Part& part : sample.parts) names.push_back(part.name);
  for (const auto& [name, value] : sample.metadata.entries()) names.push_back(name);
  for (const std::string& need : needs) {
    if (std::ranges::find(names, need) != names.end()) continue;
    const std::string near = nearest_name(need, names);
    throw ConfigError(who, " needs '", need, "', which samples of ", samples.name(), " do not have",
                      near.empty() ? "" : text("; did you mean '", near, "'?"), "; they have ", join(names),
                      ", and with_metadata(...) adds fields of a file");
  }
}

}  // namespace lab::detail

namespace lab {

Dataset Dataset::pick(std::vector<int64_t> indices) const {
  if (!node_)
    throw ConfigError("there is nothing to pick from in an empty dataset; name a file by hdf5(...)");
  return Dataset(std::make_shared<detail::PickNode>(node_, std::move(indices)));
}

Dataset Dataset::filter(std::string name, std::vector<std::string> needs,
                        std::function<bool(const Sample&)> keep) const {
  if (!node_) throw ConfigError("there is nothing to filter in an empty dataset; name a file by hdf5(...)");
  return Dataset(
      std::make_shared<detail::FilterNode>(node_, std::move(name), std::move(needs), std::move(keep)));
}

}  // namespace lab
