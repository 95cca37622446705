#pragma once
// Batches of one rank, made ahead of time on a thread of their own.

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "lab/data/order.h"
#include "lab/data/source.h"
#include "lab/data/transform.h"

namespace lab {

// What to make next: the samples at these positions of the epoch's order. count may be 0.
struct BatchRequest {
  uint64_t epoch = 0;
  Range positions;
};

// A batch in host memory: parts of shape (count, ...), 64-byte aligned, owned by the batch.
struct HostBatch {
  struct Part {
    std::string name;
    DType type = DType::f32;
    std::vector<int64_t> shape;        // first: count
    std::shared_ptr<std::byte> bytes;  // may be kept after the batch is gone
  };
  BatchRequest request = {};
  std::vector<int64_t> ids = {};        // file index of each sample
  std::vector<Part> parts = {};         // of a batch with count 0: the parts, with zero rows
  std::vector<Metadata> metadata = {};  // of each sample, after its transforms; none where no sample has any
};

struct ReaderOptions {
  uint64_t seed = 0;
  bool shuffle = false;
  DType precision = DType::f32;
  int depth = 2;  // batches made ahead, or more, up to 64, that like the first are fewer bytes together than:
  size_t small_bytes = size_t{4} << 20;
  // Gives the memory of a part of a batch, at a multiple of 64 bytes; called by whoever makes batches. Empty:
  // memory of the process.
  std::function<std::shared_ptr<std::byte>(size_t bytes)> memory = {};
};

// Owns its thread; `next()` is for one consumer. An error while reading is thrown by the `next()` that would
// have returned that batch. Never communicates. Destroying it stops the thread at once.
class Reader {
 public:
  // `plan` is called on the reader's thread, in order, and says what comes next; nullopt: the end.
  Reader(std::shared_ptr<const Source> source, Transforms transforms, ReaderOptions options,
         std::function<std::optional<BatchRequest>()> plan);
  ~Reader();
  std::optional<HostBatch> next();  // nullopt after the end
  double waited_seconds() const;    // time spent inside next() so far

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// One batch, made here and now: what the reader's thread does.
// Throws DataError for a NaN or infinite value in a float part that came from the file: part, sample ids.
HostBatch make_batch(const Source& source, const Transforms& transforms, const ReaderOptions& options,
                     const BatchRequest& request);

// The samples that a batch is made of, as they came out of their transforms: the reverse of make_batch (what
// torch-lab's `separate` does). Throws DataError for a part that has not one row for each of the batch's ids.
std::vector<Sample> separate(const HostBatch& batch);
// The same, and the transforms on each, with the random numbers of this seed and epoch (torch-lab's
// TransformSeperate).
std::vector<Sample> apply_to_each(const Transforms& transforms, const HostBatch& batch, uint64_t seed = 0,
                                  uint64_t epoch = 0);

}  // namespace lab
