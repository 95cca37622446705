// Datasets whose samples are as transforms leave them.
#include "data/opened_samples.h"
#include "data/sample_check.h"
#include "data/transform_run.h"
#include "lab/core/error.h"

namespace lab {
namespace detail {
namespace {

class MappedSamples : public SamplesOfOne {
 public:
  MappedSamples(Opened from, const Transforms& transforms, uint64_t first_place)
      : SamplesOfOne(std::move(from)), transforms_(transforms), first_place_(first_place) {}
  std::string identity() const override {
    std::string out = from().identity();
    for (const Transform& transform : transforms_) out += text("each by ", transform.name, '\n');
    return out;
  }
  void read(int64_t i, Sample& sample, const Wanted&) const override {
    constexpr uint64_t no_epoch = UINT64_MAX;  // none of a run's, whose transforms draw other numbers
    from().read(i, sample, {});
    const std::function<std::string()> where = [this, i] { return place(i); };
    run(transforms_, sample, {0, no_epoch, first_place_}, where);
    check_sizes(sample, where);
  }

 private:
  Transforms transforms_;
  uint64_t first_place_;  // behind the transforms of maps below, so that each draws its own
};

struct MapNode : NodeOfOne {
  Transforms transforms;
  MapNode(const Node& of, Transforms transforms_)
      : NodeOfOne(of, "", of->count), transforms(std::move(transforms_)) {
    mapped_by += transforms.size();
  }
  Opened open(Opening& opening) const override {
    return std::make_shared<MappedSamples>(open_once(*child, opening), transforms, child->mapped_by);
  }
};

}  // namespace
}  // namespace detail

Dataset Dataset::map(Transforms transforms) const {
  if (!node_) throw ConfigError("there is nothing to map in an empty dataset; name a file by hdf5(...)");
  if (transforms.empty()) return *this;
  return Dataset(std::make_shared<detail::MapNode>(node_, std::move(transforms)));
}

}  // namespace lab
