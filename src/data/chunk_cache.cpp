#include "data/chunk_cache.h"

namespace lab::detail {

ChunkCache::Bytes ChunkCache::find(Key key) {
  const std::lock_guard lock(mutex_);
  const auto place = places_.find(key);
  if (place == places_.end()) return nullptr;
  chunks_.splice(chunks_.begin(), chunks_, place->second);
  return chunks_.front().second;
}

void ChunkCache::add(Key key, const Bytes& bytes) {
  const std::lock_guard lock(mutex_);
  if (places_.contains(key)) return;  // another thread was faster
  chunks_.emplace_front(key, bytes);
  places_[key] = chunks_.begin();
  bytes_ += bytes->size();
  while (bytes_ > most_bytes_ && chunks_.size() > 1) {
    bytes_ -= chunks_.back().second->size();
    places_.erase(chunks_.back().first);
    chunks_.pop_back();
  }
}

}  // namespace lab::detail
