#pragma once
// The chunks that were decoded last, so that neighbouring samples decode a chunk once.

#include <cstddef>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace lab::detail {

// Least recently used chunks leave first. Locked: several threads may ask. What was handed out stays valid.
class ChunkCache {
 public:
  using Key = std::pair<size_t, size_t>;  // field, chunk
  using Bytes = std::shared_ptr<const std::vector<std::byte>>;

  explicit ChunkCache(size_t most_bytes) : most_bytes_(most_bytes) {}

  Bytes find(Key key);  // null when it is not here
  void add(Key key, const Bytes& bytes);

 private:
  std::mutex mutex_;
  const size_t most_bytes_;
  size_t bytes_ = 0;
  std::list<std::pair<Key, Bytes>> chunks_;  // most recently used first
  std::map<Key, std::list<std::pair<Key, Bytes>>::iterator> places_;
};

}  // namespace lab::detail
