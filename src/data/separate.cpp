#include <algorithm>
#include <functional>
#include <numeric>

#include "data/geometry.h"
#include "lab/core/error.h"
#include "lab/data/reader.h"

namespace lab {
namespace {

// Row `row` of a part whose first dimension is samples.
Part row_of(const HostBatch::Part& rows, size_t row) {
  Part part{rows.name, rows.type, {rows.shape.begin() + 1, rows.shape.end()}, {}};
  const auto bytes = static_cast<size_t>(part.elements() * size_of(part.type));
  const std::byte* first = rows.bytes.get() + row * bytes;
  part.bytes.assign(first, first + bytes);
  return part;
}

}  // namespace

std::vector<Sample> separate(const HostBatch& batch) {
  const size_t count = batch.ids.size();
  for (const HostBatch::Part& part : batch.parts)
    if (part.shape.empty() || part.shape.front() != static_cast<int64_t>(count))
      throw DataError("'", part.name, "' of a batch of ", count, " samples has the shape ",
                      detail::shape_text(part.shape), "; its first dimension must be the samples");
  if (!batch.metadata.empty() && batch.metadata.size() != count)
    throw DataError("a batch of ", count, " samples has the metadata of ", batch.metadata.size(),
                    "; give it for each, or for none");
  std::vector<Sample> samples(count);
  for (size_t row = 0; row < count; ++row) {
    samples[row].id = batch.ids[row];
    for (const HostBatch::Part& part : batch.parts) samples[row].parts.push_back(row_of(part, row));
    if (!batch.metadata.empty()) samples[row].metadata = batch.metadata[row];
  }
  return samples;
}

std::vector<Sample> apply_to_each(const Transforms& transforms, const HostBatch& batch, uint64_t seed,
                                  uint64_t epoch) {
  std::vector<Sample> samples = separate(batch);
  for (Sample& sample : samples) apply(transforms, sample, seed, epoch);
  return samples;
}

}  // namespace lab
