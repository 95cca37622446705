#include "lab/data/reader.h"

#include <bit>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <numeric>
#include <thread>
#include <utility>

#include "data/elements.h"
#include "data/sample_check.h"
#include "data/transform_run.h"
#include "lab/core/cores.h"
#include "lab/core/error.h"

namespace lab {
namespace {

constexpr size_t alignment = 64;

std::shared_ptr<std::byte> aligned_bytes(size_t size) {
  const size_t rounded = std::max(alignment, (size + alignment - 1) / alignment * alignment);
  auto* bytes = static_cast<std::byte*>(std::aligned_alloc(alignment, rounded));
  if (bytes == nullptr) throw std::bad_alloc();
  return {bytes, std::free};
}

bool all_finite(const Part& part) {
  return detail::visit_type(part.type, [&]<class Element>(Element) {
    const auto* values = part.data<Element>();
    const auto count = static_cast<size_t>(part.elements());
    int finite = 1;  // without a branch, so that the loop runs on vectors
    for (size_t i = 0; i < count; ++i) finite &= std::isfinite(static_cast<double>(values[i]));
    return finite != 0;
  });
}

// Samples with a value that is not finite, by part. All of a batch are looked at before it is refused.
class FiniteCheck {
 public:
  bool passes(const Sample& sample) {
    parts_.resize(sample.parts.size());
    bool finite = true;
    for (size_t i = 0; i < sample.parts.size(); ++i) {
      const Part& part = sample.parts[i];
      if (!is_floating(part.type) || all_finite(part)) continue;
      parts_[i].name = part.name;
      parts_[i].ids.push_back(sample.id);
      finite = false;
    }
    return finite;
  }
  void throw_if_any(const std::string& path) const {
    for (const Found& found : parts_)
      if (!found.ids.empty())
        throw DataError("NaN or infinity in '", found.name, "' (samples ", short_list(found.ids), ") of ",
                        path, "; correct or leave out these samples, lab_data verify lists all of them");
  }

 private:
  struct Found {
    std::string name;
    std::vector<int64_t> ids;
  };
  std::vector<Found> parts_;
};

// Gives the batch its parts, shaped like those of its first sample.
void make_parts(HostBatch& batch, const Sample& like, const ReaderOptions& options) {
  const int64_t rows = batch.request.positions.count;
  for (const Part& part : like.parts) {
    HostBatch::Part& made =
        batch.parts.emplace_back(HostBatch::Part{part.name, part.type, part.shape, nullptr});
    made.shape.insert(made.shape.begin(), rows);
    const size_t bytes = static_cast<size_t>(rows) * part.bytes.size();
    made.bytes = options.memory ? options.memory(bytes) : aligned_bytes(bytes);
  }
}

// `i`: which sample of the source it is.
void add_row(HostBatch& batch, const Sample& sample, const Source& source, int64_t i) {
  bool same = sample.parts.size() == batch.parts.size();
  for (size_t p = 0; same && p < batch.parts.size(); ++p) {
    const Part& part = sample.parts[p];
    const HostBatch::Part& rows = batch.parts[p];
    same = part.name == rows.name && part.type == rows.type &&
           std::equal(part.shape.begin(), part.shape.end(), rows.shape.begin() + 1, rows.shape.end());
    if (same)
      std::memcpy(rows.bytes.get() + batch.ids.size() * part.bytes.size(), part.bytes.data(),
                  part.bytes.size());
  }
  if (!same)
    throw DataError(source.place(i), " came out of its transforms as (", detail::parts_text(sample),
                    "), unlike sample ", batch.ids.front(), " of the same batch; make all samples alike");
  batch.ids.push_back(sample.id);
  if (sample.metadata.empty() && batch.metadata.empty()) return;
  batch.metadata.resize(batch.ids.size());
  batch.metadata.back() = sample.metadata;
}

// Makes one batch after the other; keeps the sample's memory. Stops between samples when asked to.
class BatchMaker {
 public:
  BatchMaker(const Source& source, const Transforms& transforms, const ReaderOptions& options)
      : source_(source), transforms_(transforms), options_(options) {}

  HostBatch make(const BatchRequest& request, const std::stop_token& stop) {
    const Range positions = request.positions;
    if (positions.count < 0 || positions.first < 0 || positions.end() > source_.size())
      throw Bug("a batch of positions ", positions.first, " to ", positions.end(), " of ", source_.size());
    HostBatch batch{.request = request};
    if (positions.count == 0) {  // nobody sees the sample, only what it is like
      read(0);
      transform(0, request.epoch);
      make_parts(batch, sample_, options_);
      return batch;
    }
    FiniteCheck finite;
    const ShuffledOrder order(options_.seed, request.epoch, source_.size());
    batch.ids.reserve(static_cast<size_t>(positions.count));
    for (int64_t p = positions.first; p < positions.end() && !stop.stop_requested(); ++p) {
      const int64_t i = options_.shuffle ? order(p) : p;
      read(i);
      if (!finite.passes(sample_)) continue;
      transform(i, request.epoch);
      if (batch.parts.empty()) make_parts(batch, sample_, options_);
      add_row(batch, sample_, source_, i);
    }
    finite.throw_if_any(source_.path());
    return batch;
  }

 private:
  void read(int64_t i) {
    sample_.precision = options_.precision;
    source_.read(i, sample_);
  }

  void transform(int64_t i, uint64_t epoch) {
    const std::function<std::string()> place = [this, i] { return source_.place(i); };
    detail::run(transforms_, sample_, {options_.seed, epoch}, place);
    detail::check_sizes(sample_, place);
  }

  const Source& source_;
  const Transforms& transforms_;
  const ReaderOptions& options_;
  Sample sample_;
};

}  // namespace

HostBatch make_batch(const Source& source, const Transforms& transforms, const ReaderOptions& options,
                     const BatchRequest& request) {
  return BatchMaker(source, transforms, options).make(request, {});
}

// How many batches like this one are made ahead if they are small: to be woken for each of them would cost
// the thread that trains more than the batch. A power of two, so that it is that of ranks with a row more.
size_t small_depth(const HostBatch& batch, size_t bytes_of_all) {
  constexpr size_t most = 64;
  size_t bytes = 0;
  for (const HostBatch::Part& part : batch.parts)
    bytes += static_cast<size_t>(
                 std::accumulate(part.shape.begin(), part.shape.end(), int64_t{1}, std::multiplies<>())) *
             static_cast<size_t>(size_of(part.type));
  return bytes == 0 ? 0 : std::bit_floor(std::min(most, bytes_of_all / bytes));
}

// The reader's thread fills `ready`, the consumer empties it; both under `mutex`. `thread` is last: it is
// stopped and joined before anything it uses goes away.
struct Reader::State {
  std::shared_ptr<const Source> source;
  Transforms transforms;
  ReaderOptions options;
  std::function<std::optional<BatchRequest>()> plan;

  std::mutex mutex;
  std::condition_variable_any changed;
  std::deque<HostBatch> ready;
  size_t depth = 1;  // so many at the most
  size_t made = 0, taken = 0;
  bool ended = false;        // nothing more will come
  std::exception_ptr error;  // why it ended, if not by plan
  double waited = 0;
  std::jthread thread;

  // The thread is woken for rows of batches, at the same ones on all ranks whose first are as large: where it
  // takes turns with the one that trains, on one core, the others do so at the same time, instead of waiting
  // for this rank's.
  size_t row() const { return std::max<size_t>(1, depth / 2); }
  bool wants_more() const { return made < taken / row() * row() + depth; }
  void run(const std::stop_token& stop);
  bool add_next(BatchMaker& maker, const std::stop_token& stop);
};

// False when there is no next batch, or nobody who wants it.
bool Reader::State::add_next(BatchMaker& maker, const std::stop_token& stop) {
  {
    std::unique_lock lock(mutex);
    if (!changed.wait(lock, stop, [this] { return wants_more(); })) return false;
  }
  const auto request = plan();
  if (!request) return false;
  HostBatch batch = maker.make(*request, stop);
  if (stop.stop_requested()) return false;  // it may be cut short
  {
    const std::lock_guard lock(mutex);
    if (made == 0) depth = std::max(depth, small_depth(batch, options.small_bytes));
    ready.push_back(std::move(batch));
    ++made;
  }
  changed.notify_all();
  return true;
}

void Reader::State::run(const std::stop_token& stop) {
  use_spare_cores();
  std::exception_ptr problem;
  try {
    BatchMaker maker(*source, transforms, options);
    while (!stop.stop_requested() && add_next(maker, stop)) {
    }
  } catch (...) {
    problem = std::current_exception();
  }
  const std::lock_guard lock(mutex);
  ended = true;
  error = problem;
  changed.notify_all();
}

Reader::Reader(std::shared_ptr<const Source> source, Transforms transforms, ReaderOptions options,
               std::function<std::optional<BatchRequest>()> plan)
    : state_(std::make_unique<State>()) {
  if (options.depth < 1)
    throw ConfigError("a reader cannot make ", options.depth, " batches ahead; 1 is the least");
  state_->source = std::move(source);
  state_->transforms = std::move(transforms);
  state_->options = options;
  state_->depth = static_cast<size_t>(options.depth);
  state_->plan = std::move(plan);
  state_->thread = std::jthread([state = state_.get()](const std::stop_token& stop) { state->run(stop); });
}

Reader::~Reader() = default;

std::optional<HostBatch> Reader::next() {
  State& state = *state_;
  const auto start = std::chrono::steady_clock::now();
  std::unique_lock lock(state.mutex);
  state.changed.wait(lock, [&] { return !state.ready.empty() || state.ended; });
  state.waited += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (state.ready.empty()) {
    if (state.error) std::rethrow_exception(state.error);
    return std::nullopt;
  }
  HostBatch batch = std::move(state.ready.front());
  state.ready.pop_front();
  const bool row_begins = ++state.taken % state.row() == 0;
  lock.unlock();  // who is woken would wait for it
  if (row_begins) state.changed.notify_all();
  return batch;
}

double Reader::waited_seconds() const {
  const std::lock_guard lock(state_->mutex);
  return state_->waited;
}

}  // namespace lab
