// Datasets whose samples stay in memory once they were made.
#include <algorithm>
#include <atomic>
#include <mutex>
#include <unordered_map>

#include "data/opened_samples.h"
#include "lab/core/error.h"

namespace lab {
namespace detail {
namespace {

// What a sample takes in a cache, with the entry that leads to it.
int64_t bytes_of(const Sample& sample) {
  constexpr size_t entry = 96;  // the hash table's node and bucket, and what shared_ptr keeps
  size_t bytes = entry + sizeof(Sample) + sample.parts.capacity() * sizeof(Part) +
                 sample.metadata.entries().capacity() * sizeof(Metadata::Entry);
  for (const Part& part : sample.parts)
    bytes += part.name.capacity() + part.shape.capacity() * sizeof(int64_t) + part.bytes.capacity();
  for (const auto& [name, value] : sample.metadata.entries()) {
    bytes += name.capacity();
    if (const auto* words = std::get_if<std::string>(&value)) bytes += words->capacity();
  }
  return static_cast<int64_t>(bytes);
}

// First come, first kept: in epochs that meet each sample once, driving the oldest out would keep none.
class CachedSamples : public SamplesOfOne {
 public:
  CachedSamples(Opened from, int64_t most_bytes) : SamplesOfOne(std::move(from)), most_bytes_(most_bytes) {}
  void read(int64_t i, Sample& sample, const Wanted& wanted) const override {
    const auto kept = find(i);
    if (kept && kept->precision == sample.precision) {
      sample = *kept;
      return;
    }
    from().read(i, sample, wanted);
    if (!kept && wanted.everything()) keep(i, sample);
  }

 private:
  std::shared_ptr<const Sample> find(int64_t i) const {
    const std::lock_guard lock(mutex_);
    const auto found = kept_.find(i);
    return found == kept_.end() ? nullptr : found->second;
  }
  void keep(int64_t i, const Sample& sample) const {
    if (full_) return;
    auto copy = std::make_shared<const Sample>(sample);  // without the room that the reader's has grown
    const int64_t bytes = bytes_of(*copy);
    const std::lock_guard lock(mutex_);
    if (bytes_ + bytes > most_bytes_)
      full_ = true;
    else if (kept_.emplace(i, std::move(copy)).second)
      bytes_ += bytes;
  }

  const int64_t most_bytes_;
  mutable std::mutex mutex_;
  mutable std::atomic<bool> full_ = false;
  mutable int64_t bytes_ = 0;
  mutable std::unordered_map<int64_t, std::shared_ptr<const Sample>> kept_;
};

struct CacheNode : NodeOfOne {
  int64_t most_bytes;
  CacheNode(const Node& of, int64_t most_bytes_) : NodeOfOne(of, "", of->count), most_bytes(most_bytes_) {
    caches = true;
    if (most_bytes < 1)
      throw ConfigError("cannot cache ", child->name, " in ", most_bytes, " bytes; give it some");
  }
  Opened open(Opening& opening) const override {
    return std::make_shared<CachedSamples>(open_once(*child, opening),
                                           most_bytes / std::max<int64_t>(1, opening.ranks_on_node));
  }
};

}  // namespace
}  // namespace detail

Dataset Dataset::cache(int64_t most_bytes) const {
  if (!node_) throw ConfigError("there is nothing to cache in an empty dataset; name a file by hdf5(...)");
  return Dataset(std::make_shared<detail::CacheNode>(node_, most_bytes));
}

}  // namespace lab
