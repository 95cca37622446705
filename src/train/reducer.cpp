#include "lab/train/reducer.h"

#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "lab/comm/agreement.h"
#include "lab/comm/tree.h"
#include "lab/core/errand.h"
#include "lab/core/error.h"
#include "lab/train/buckets.h"
#include "lab/train/tensor_buffer.h"
#include "train/gradient_means.h"
#include "train/riders.h"
#include "train/slot_sums.h"

namespace lab {
namespace {

constexpr int64_t first_bucket_bytes = 1 << 20;
// Bytes of gradients up to which several sets of them wait: of more, the first has left the near caches by
// then.
constexpr size_t most_to_keep = size_t{4} << 20;

}  // namespace

struct GradientReducer::State {
  Communicator& comm;
  FlatParameters& parameters;
  Numerics numerics;
  bool during_backward = true, norm = false, as_bf16 = false;
  Range part;                       // of the sums that this rank wants
  bool in_parts = false;            // each rank adds up its own alone, where all ranks' stacks lie
  bool alone = false;               // one rank, on a processor
  BufferMemory memory;              // of the stack, which other ranks of the node may see
  std::vector<at::Tensor> stack;    // partial sums; flat gradients plus the riders
  at::Tensor flat_gradients;        // the lowest, without the riders
  std::vector<SlotSums> slot_sums;  // per slot
  std::optional<SlotSums> rider_sums;
  std::vector<Bucket> buckets;
  std::vector<size_t> bucket_of;  // per slot
  int partials = 1;               // entries of the stack that are left at the end of a step
  BufferMemory scratch;           // of the tree sum; used by the lane alone

  MicroBatch now;
  int passes = 1;
  bool last = false, open = false;
  std::vector<int> gradients;        // per slot: how many passes of this micro-batch made one
  std::vector<int64_t> missing;      // per bucket: slots not arrived in the last micro-batch
  std::vector<int64_t> order;        // in which buckets are reduced
  std::vector<int64_t> whole_order;  // in which they became whole in this step's last micro-batch
  size_t launched = 0;               // buckets of this step
  std::vector<Ticket> tickets;
  bool first_step = true;
  std::vector<std::string> unused;

  State(Communicator& c, FlatParameters& p, const Options& options)
      : comm(c),
        parameters(p),
        numerics(options.numerics),
        during_backward(options.during_backward),
        norm(options.norm),
        part{0, p.size()} {
    alone = c.size() == 1 && p.values().is_cpu();
    as_bf16 = options.bf16_between_nodes && p.type() == torch::kFloat32;
    const int64_t total = p.size() + 64 / p.values().element_size();
    make_stack(total);
    flat_gradients = stack.front().narrow(0, 0, p.size());
    partials = partial_sums(numerics, c.rank(), c.size());
    std::vector<Range> ranges;
    for (const auto& slot : p.slots()) {
      ranges.push_back(slot.elements);
      std::vector<at::Tensor> views;
      for (const auto& flat : stack) views.push_back(FlatParameters::view(flat, slot));
      slot_sums.emplace_back(std::move(views), stack.front().nbytes() <= most_to_keep);
    }
    std::vector<at::Tensor> places;
    for (const auto& flat : stack) places.push_back(flat.narrow(0, p.size(), rider_slots));
    rider_sums.emplace(std::move(places));
    const auto cap = static_cast<int64_t>(options.bucket_cap_mb * (1 << 20));
    buckets = plan_buckets(ranges, total, p.values().element_size(), std::min(cap, first_bucket_bytes), cap);
    for (size_t b = 0; b < buckets.size(); ++b)
      bucket_of.insert(bucket_of.end(), static_cast<size_t>(buckets[b].slots.count), b);
    for (size_t b = 0; b < buckets.size(); ++b) order.push_back(static_cast<int64_t>(b));
    gradients.assign(ranges.size(), 0);
    require_equal(comm, {"bucket plan", text_of(buckets, dtype_of(p.values().scalar_type()))});
  }

  // Partial sums of so many elements, each at a multiple of 64 bytes.
  void make_stack(int64_t total) {
    int most = 0;  // of all ranks, as they allocate alike
    for (int rank = 0; rank < comm.size(); ++rank)
      most = std::max(most, most_partial_sums(numerics, rank, comm.size()));
    const int64_t stride = (total * parameters.values().element_size() + 63) / 64 * 64;
    memory = comm.allocate(most * stride);
    for (int i = 0; i < most_partial_sums(numerics, comm.rank(), comm.size()); ++i)
      stack.push_back(torch::from_blob(
          memory.data.get() + i * stride, {total}, [held = memory.data](void*) {},
          parameters.values().options().requires_grad(false)));
  }

  // A backward pass made this slot's gradient. While more passes may come, autograd adds theirs to it, where
  // it lies.
  void arrived(size_t slot) {
    if (++gradients[slot] > passes)
      throw Bug("parameter ", parameters.slots()[slot].name, " got gradient number ", gradients[slot],
                " of a micro-batch that was armed for ", passes, passes == 1 ? " backward pass" : " passes");
    if (gradients[slot] == passes) take(slot);
  }

  // The parameter is left without gradient when the next backward starts, so that autograd can hand over its
  // tensor without a copy.
  void take(size_t slot) {
    const torch::NoGradGuard no_grad;
    const at::Tensor& parameter = parameters.slots()[slot].parameter;
    const at::Tensor gradient = parameter.grad();
    parameter.mutable_grad().reset();
    put(slot, gradient);
  }

  void put(size_t slot, const at::Tensor& gradient) {
    slot_sums[slot].add(now.placement, gradient, last, left_for_finish(slot));
    if (!last) return;
    const size_t bucket = bucket_of[slot];
    missing[bucket] -= 1;
    if (in_parts) return;
    if (first_step && missing[bucket] == 0) whole_order.push_back(static_cast<int64_t>(bucket));
    if (during_backward) launch_whole_buckets();
  }

  // What this rank adds up of the gradient may be left until the chunk is added up, instead of going through
  // the memory twice.
  Range left_for_finish(size_t slot) const {
    if (!in_parts && !alone) return {};
    const Range whole = parameters.slots()[slot].elements, own = overlap(whole, part);
    return own.count > 0 ? Range{own.first - whole.first, own.count} : Range{};
  }

  void make_left(Range chunk) {
    for (size_t slot = slot_at(chunk.first); slot < slot_sums.size(); ++slot) {
      const Range elements = parameters.slots()[slot].elements, here = overlap(elements, chunk);
      if (elements.first >= chunk.end()) return;
      slot_sums[slot].make({here.first - elements.first, here.count});
    }
  }

  // A chunk of this rank's sums: in one gradient, or all of it in the stack.
  const void* sums_of(Range chunk) {
    if (const size_t slot = slot_at(chunk.first); slot < slot_sums.size()) {
      const Range elements = parameters.slots()[slot].elements;
      if (overlap(elements, chunk) == chunk)
        return slot_sums[slot].sums({chunk.first - elements.first, chunk.count});
    }
    make_left(chunk);
    return memory.data.get() + chunk.first * parameters.values().element_size();
  }

  void forget_left() {
    for (SlotSums& sums : slot_sums) sums.forget();
  }

  // The one with this element, or the next behind it.
  size_t slot_at(int64_t element) const {
    const auto& slots = parameters.slots();
    const auto slot =
        std::ranges::partition_point(slots, [&](const auto& s) { return s.elements.end() <= element; });
    return static_cast<size_t>(slot - slots.begin());
  }

  void launch_whole_buckets() {
    for (; launched < order.size(); ++launched) {
      const auto bucket = static_cast<size_t>(order[launched]);
      if (missing[bucket] > 0) return;
      tickets.push_back(comm.submit([this, bucket] { reduce(bucket); }));
    }
  }

  // From the second step on buckets are reduced in the order in which they became whole on rank 0.
  void agree_on_order() {
    order = whole_order;
    comm.broadcast({order.data(), std::ssize(order), DType::i64}, 0);
  }

  void reduce(size_t bucket) {
    const Errand errand("gradient bucket", static_cast<int64_t>(bucket));
    const Range elements = buckets[bucket].elements;
    const auto parts = partial_sums_of(elements);
    if (numerics.canonical)
      tree_all_reduce(comm, numerics.leaves, parts, scratch);
    else if (as_bf16)
      reduce_as_bf16(parts.front(), elements);
    else
      comm.all_reduce(parts.front(), ReduceOp::sum);
  }

  // The partial sums that are left of this rank's step.
  std::vector<Buffer> partial_sums_of(Range elements) const {
    std::vector<Buffer> parts;
    for (int i = 0; i < partials; ++i)
      parts.push_back(as_buffer(stack[static_cast<size_t>(i)]).slice(elements.first, elements.count));
    return parts;
  }

  void reduce_buckets() {
    launch_whole_buckets();
    for (const auto& ticket : tickets) ticket.wait();
    tickets.clear();
    if (first_step) agree_on_order();
  }

  // This rank's part of the sums, and all of the riders. Others read this rank's stack until all ranks have
  // said what they measured.
  at::Tensor reduce_part(GradientMeans& means) {
    const Errand errand("gradients");
    const int64_t whole = stack.front().numel();
    SeenSum sum(comm.view(partial_sums_of({0, whole})), numerics.canonical ? numerics.leaves : 0);
    const Buffer mine = as_buffer(stack.front());
    const at::Tensor told = torch::empty_like(rider_sums->places().front());
    sum.write({parameters.size(), rider_slots}, as_buffer(told));
    means.each_chunk(part, weight_of(told), [&](Range chunk) {
      const Buffer to = mine.slice(chunk.first, chunk.count);
      if (numerics.canonical) make_left(chunk);
      sum.write(chunk, to, numerics.canonical ? nullptr : sums_of(chunk));
      return GradientChunk{to.data, to};
    });
    forget_left();
    means.add_others(comm);
    return told;
  }

  // The whole sums, which this rank has.
  void make_means_of_all(StepSums& sums) {
    const at::Tensor& told = rider_sums->places().front();
    if (!told.is_cpu()) {
      sums.norm = make_means(sums.gradients, told[1].clamp_min(least_weight));
      sums.facts = facts_of(told, sums.norm);
      sums.skip = sums.facts.isfinite().all().logical_not().to(torch::kFloat32);
      return;
    }
    GradientMeans means(parameters.size(), norm);
    const Buffer mine = as_buffer(stack.front());
    means.each_chunk({0, parameters.size()}, weight_of(told), [&](Range chunk) {
      return GradientChunk{sums_of(chunk), mine.slice(chunk.first, chunk.count)};
    });
    forget_left();
    note(sums, told, means);
  }

  // On CPUs, where all is known.
  static void note(StepSums& sums, const at::Tensor& told, const GradientMeans& means) {
    const double norm = means.finite() ? means.norm() : std::numeric_limits<double>::quiet_NaN();
    const std::vector<double> facts = facts_of(told, norm);
    sums.norm = scalar_of(norm, torch::kFloat64);
    sums.facts = tensor_of(facts, torch::kFloat64);
    const bool finite = step_facts(facts.data()).finite;
    sums.skip = scalar_of(finite ? 0.0 : 1.0, torch::kFloat32);
  }

  // What rides behind the gradients stays exact.
  void reduce_as_bf16(const Buffer& sums, Range elements) {
    const int64_t behind = std::max<int64_t>(elements.end() - parameters.size(), 0);
    comm.all_reduce_bf16(sums.slice(0, sums.count - behind));
    if (behind > 0) comm.all_reduce(sums.slice(sums.count - behind, behind), ReduceOp::sum);
  }

  // Ends the micro-batch under way: some passes did not reach all parameters, and what none reached has no
  // gradient.
  void close_micro_batch() {
    const torch::NoGradGuard no_grad;
    for (size_t slot = 0; slot < gradients.size(); ++slot) {
      if (gradients[slot] == passes) continue;
      if (gradients[slot] > 0) {
        take(slot);
        continue;
      }
      if (first_step && now.positions.count > 0) unused.push_back(parameters.slots()[slot].name);
      put(slot, {});
    }
    open = false;
  }
};

namespace {

// Calls the reducer as soon as a backward pass has made a parameter's gradient.
class GradientHook final : public torch::autograd::PostAccumulateGradHook {
 public:
  explicit GradientHook(std::function<void()> arrived) : arrived_(std::move(arrived)) {}
  void operator()(const torch::autograd::Variable&) override { arrived_(); }

 private:
  std::function<void()> arrived_;
};

}  // namespace

GradientReducer::GradientReducer(Communicator& comm, FlatParameters& parameters, const Options& options)
    : state_(std::make_unique<State>(comm, parameters, options)) {
  for (size_t slot = 0; slot < parameters.slots().size(); ++slot)
    torch::autograd::impl::set_post_acc_grad_hooks(
        parameters.slots()[slot].parameter,
        std::make_unique<GradientHook>([s = state_.get(), slot] { s->arrived(slot); }));
}

GradientReducer::~GradientReducer() {
  for (const auto& slot : state_->parameters.slots())
    torch::autograd::impl::set_post_acc_grad_hooks(slot.parameter, nullptr);
}

void GradientReducer::arm(const MicroBatch& micro_batch, const WeightedSum& loss, bool last,
                          const StepNotes& notes, int passes) {
  if (passes < 1) throw Bug("a micro-batch of ", passes, " backward passes");
  State& s = *state_;
  if (s.open) s.close_micro_batch();
  const torch::NoGradGuard no_grad;
  s.now = micro_batch;
  s.passes = passes;
  s.last = last;
  s.open = true;
  std::fill(s.gradients.begin(), s.gradients.end(), 0);
  s.rider_sums->add(micro_batch.placement, riders(loss, notes, s.stack.front().options()), last);
  if (!last) return;
  s.launched = 0;
  s.missing.clear();
  for (const auto& bucket : s.buckets) s.missing.push_back(bucket.slots.count);
}

StepSums GradientReducer::finish() {
  State& s = *state_;
  if (!s.open || !s.last) throw Bug("finish() without a last arm() before it");
  s.close_micro_batch();
  const torch::NoGradGuard no_grad;
  StepSums sums;
  sums.gradients = s.flat_gradients;
  sums.part = s.in_parts ? s.part : Range{0, s.parameters.size()};
  if (s.in_parts) {
    GradientMeans means(s.parameters.size(), s.norm);
    const at::Tensor told = s.reduce_part(means);
    s.note(sums, told, means);
  } else {
    s.reduce_buckets();
    s.make_means_of_all(sums);
  }
  s.first_step = false;
  return sums;
}

void GradientReducer::want(Range part) {
  State& s = *state_;
  s.part = part;
  int64_t whole = part.count == s.parameters.size();
  s.comm.all_reduce({&whole, 1, DType::i64}, ReduceOp::min);
  s.in_parts = false;
  if (whole) return;
  s.in_parts = !s.comm.view(s.partial_sums_of({0, s.stack.front().numel()})).empty();
  if (s.in_parts) s.comm.barrier();
}

int64_t GradientReducer::buckets() const { return static_cast<int64_t>(state_->buckets.size()); }
const std::vector<std::string>& GradientReducer::unused() const { return state_->unused; }

}  // namespace lab
