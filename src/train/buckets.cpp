#include "lab/train/buckets.h"

#include "lab/core/text.h"

namespace lab {

std::vector<Bucket> plan_buckets(std::span<const Range> slots, int64_t total, int64_t element_bytes,
                                 int64_t first_cap_bytes, int64_t cap_bytes) {
  std::vector<Bucket> buckets(1);
  for (size_t i = 0; i < slots.size(); ++i) {
    const int64_t end = i + 1 < slots.size() ? slots[i + 1].first : slots[i].end();
    const int64_t cap = buckets.size() == 1 ? first_cap_bytes : cap_bytes;
    if (buckets.back().slots.count > 0 && (end - buckets.back().elements.first) * element_bytes > cap)
      buckets.push_back({{static_cast<int64_t>(i), 0}, {slots[i].first, 0}});
    Bucket& bucket = buckets.back();
    bucket.slots.count += 1;
    bucket.elements.count = end - bucket.elements.first;
  }
  buckets.back().elements.count = total - buckets.back().elements.first;
  return buckets;
}

std::string text_of(std::span<const Bucket> buckets, DType type) {
  std::string out;
  for (const Bucket& bucket : buckets)
    out += text("parameters ", bucket.slots.first, " to ", bucket.slots.end(), ", elements ",
                bucket.elements.first, " to ", bucket.elements.end(), " of ", name_of(type), "\n");
  return out;
}

}  // namespace lab
