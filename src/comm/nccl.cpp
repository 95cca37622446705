#include <nccl.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>

#include "comm/backends.h"
#include "comm/call.h"
#include "lab/comm/agreement.h"
#include "lab/core/error.h"
#include "lab/device/stream.h"

namespace lab {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto ready_limit = 60s;   // for all ranks to find each other
constexpr auto look_pause = 100ms;  // between two looks for errors of what the GPUs do

ncclDataType_t nccl_type(DType type) {
  switch (type) {
    case DType::u8:
      return ncclUint8;
    case DType::i32:
      return ncclInt32;
    case DType::i64:
      return ncclInt64;
    case DType::f16:
      return ncclFloat16;
    case DType::bf16:
      return ncclBfloat16;
    case DType::f32:
      return ncclFloat32;
    case DType::f64:
      return ncclFloat64;
    default:
      throw Bug("elements of type ", name_of(type), " cannot be sent by the nccl backend");
  }
}

ncclRedOp_t nccl_op(ReduceOp op) {
  return op == ReduceOp::sum ? ncclSum : op == ReduceOp::min ? ncclMin : ncclMax;
}

// NCCL's words for a code, and what it has to say about the last error, of this group or of this thread.
std::string in_words(ncclResult_t code, ncclComm_t group) {
  const char* more = ncclGetLastError(group);
  return more && *more ? text(ncclGetErrorString(code), ": ", more) : std::string(ncclGetErrorString(code));
}

std::string library() {
  int version = 0;
  ncclGetVersion(&version);
  return text("NCCL ", version / 10000, '.', version / 100 % 100, '.', version % 100);
}

// A group of NCCL's, which does not block its callers. Each function may be called by one thread, while
// another one looks for errors.
class Group {
 public:
  ~Group() {
    stop_looking();
    if (group_) ncclCommAbort(group_);  // not a collective, as ncclCommDestroy would be
  }

  // Of the ranks of `host`. Collective; Unavailable, on all ranks alike.
  static std::unique_ptr<Group> of(Communicator& host) {
    auto group = std::make_unique<Group>();
    group->join(host);
    return group;
  }

  // Queues what `call` asks for; throws IoError when that fails, or something before it has.
  template <class Ask>
  void ask(const std::string& what, const Ask& call) {
    const std::lock_guard lock(mutex_);
    throw_if_failed(what);
    ncclResult_t state = call(group_);
    while (state == ncclInProgress) state = state_now();
    if (state != ncclSuccess) fail(state);
    throw_if_failed(what);
  }

  // IoError when something has failed so far.
  void require_alive(const std::string& what) {
    const std::lock_guard lock(mutex_);
    look_once();
    throw_if_failed(what);
  }

 private:
  void join(Communicator& host) {
    ncclUniqueId id = {};
    agree(host, [&] {
      if (host.rank() != 0) return;
      if (const auto code = ncclGetUniqueId(&id); code != ncclSuccess)
        throw Unavailable(library(), " can't begin: ", in_words(code, nullptr));
    });
    host.broadcast({&id, sizeof id, DType::u8}, 0);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    const auto state =
        await_all(host, ncclCommInitRankConfig(&group_, host.size(), id, host.rank(), &config));
    agree(host, [&] {
      if (state == ncclInProgress)
        throw Unavailable(
            library(), " has not brought the ranks together within ", ready_limit.count(),
            " s; NCCL_DEBUG=INFO shows what it tries, NCCL_SOCKET_IFNAME which network it may use");
      if (state != ncclSuccess)
        throw Unavailable(library(), " can't use this rank's GPU: ", in_words(state, group_),
                          "; nvidia-smi shows driver and GPUs, --backend auto trains without them");
    });
    looking_ = std::thread([this] { look(); });
  }

  // All ranks look together, so that one's error need not be waited for by the others.
  ncclResult_t await_all(Communicator& host, ncclResult_t state) {
    const auto end = Clock::now() + ready_limit;
    for (;;) {
      if (state == ncclInProgress) state = state_now();
      const bool late = Clock::now() > end;
      std::array<int64_t, 2> of_any = {state == ncclInProgress,
                                       late || (state != ncclInProgress && state != ncclSuccess)};
      host.all_reduce({of_any.data(), std::ssize(of_any), DType::i64}, ReduceOp::max);
      const auto [waits, gives_up] = of_any;
      if (!waits || gives_up) return state == ncclInProgress && !late ? ncclSuccess : state;
      std::this_thread::sleep_for(1ms);
    }
  }

  // The GPUs' errors come to light only by asking; whoever waits for them would wait for ever.
  void look() {
    std::unique_lock lock(mutex_);
    while (!stop_.wait_for(lock, look_pause, [this] { return stopping_ || !group_; })) look_once();
  }

  // These want the mutex, once others look too.
  ncclResult_t state_now() const {
    ncclResult_t state = ncclSuccess;
    const auto code = ncclCommGetAsyncError(group_, &state);
    return code == ncclSuccess ? state : code;
  }
  void look_once() {
    if (!group_) return;
    if (const auto state = state_now(); state != ncclSuccess && state != ncclInProgress) fail(state);
  }
  // Ends what is under way, so that nobody waits for it.
  void fail(ncclResult_t state) {
    failure_ = in_words(state, group_);
    ncclCommAbort(std::exchange(group_, nullptr));
  }
  void throw_if_failed(const std::string& what) const {
    if (!group_) throw IoError("NCCL failed in or before ", what, ": ", failure_);
  }

  void stop_looking() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    stop_.notify_one();
    if (looking_.joinable()) looking_.join();
  }

  ncclComm_t group_ = nullptr;
  std::mutex mutex_;
  std::condition_variable stop_;
  bool stopping_ = false;
  std::string failure_;  // why there is no group any more
  std::thread looking_;
};

// Buffers in the GPU's memory go by NCCL, on a stream of its own that begins when the compute stream has made
// them and that the compute stream waits for: the caller never does. All others are the host group's.
class Nccl final : public Communicator {
 public:
  explicit Nccl(std::unique_ptr<Communicator> host) : host_(std::move(host)), group_(Group::of(*host_)) {
    agree(*host_, [this] { streams_ = std::make_unique<Streams>(); });
  }

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  const char* name() const override { return "nccl"; }

  void all_reduce(Buffer buffer, ReduceOp op) override {
    if (!on_device(buffer.data)) return on_host("all-reduce").all_reduce(buffer, op);
    launch({Collective::all_reduce, buffer.type, op, 0, buffer.count},
           [&](ncclComm_t group, cudaStream_t stream) {
             return ncclAllReduce(buffer.data, buffer.data, elements(buffer), nccl_type(buffer.type),
                                  nccl_op(op), group, stream);
           });
  }

  // Nothing is rounded: NCCL has no sums of f32 that travel as bf16.
  void all_reduce_bf16(Buffer sums) override {
    if (!on_device(sums.data)) return on_host("all-reduce").all_reduce_bf16(sums);
    all_reduce(sums, ReduceOp::sum);
  }

  void broadcast(Buffer buffer, int root) override {
    if (!on_device(buffer.data)) return on_host("broadcast").broadcast(buffer, root);
    launch({Collective::broadcast, buffer.type, {}, root, buffer.count},
           [&](ncclComm_t group, cudaStream_t stream) {
             return ncclBroadcast(buffer.data, buffer.data, elements(buffer), nccl_type(buffer.type), root,
                                  group, stream);
           });
  }

  void all_gather(Buffer all) override {
    if (!on_device(all.data)) return on_host("all-gather").all_gather(all);
    const int64_t part = all.count / size();
    const Buffer mine = all.slice(rank() * part, part);
    launch({Collective::all_gather, all.type, {}, 0, all.count}, [&](ncclComm_t group, cudaStream_t stream) {
      return ncclAllGather(mine.data, all.data, elements(mine), nccl_type(all.type), group, stream);
    });
  }

  void exchange(std::span<const Message> sends, std::span<const Message> receives) override {
    const auto is_on_device = [](const Message& message) { return on_device(message.buffer.data); };
    int64_t by_nccl = std::ranges::any_of(sends, is_on_device) || std::ranges::any_of(receives, is_on_device);
    on_host("exchange")
        .all_reduce({&by_nccl, 1, DType::i64}, ReduceOp::max);  // who has no messages can't tell
    if (!by_nccl) return host_->exchange(sends, receives);
    // What is exchanged is used at once, on the compute stream: it waits also within submit().
    launch(
        {.kind = Collective::exchange},
        [&](ncclComm_t group, cudaStream_t stream) {
          ncclResult_t worst = ncclGroupStart();
          const auto note = [&](ncclResult_t code) {
            if (code != ncclSuccess && code != ncclInProgress) worst = code;
          };
          for (const auto& [peer, buffer] : receives)
            if (buffer.count > 0)
              note(ncclRecv(buffer.data, elements(buffer), nccl_type(buffer.type), peer, group, stream));
          for (const auto& [peer, buffer] : sends)
            if (buffer.count > 0)
              note(ncclSend(buffer.data, elements(buffer), nccl_type(buffer.type), peer, group, stream));
          const auto end = ncclGroupEnd();
          return worst == ncclSuccess ? end : worst;
        },
        true);
  }

  void barrier() override { on_host("barrier").barrier(); }

  BufferMemory allocate(int64_t bytes) override { return device_allocation(bytes); }
  std::vector<std::vector<Buffer>> view(std::span<const Buffer>) override { return {}; }

  // Queues all of it at once, and lets the compute stream go on until somebody waits.
  Ticket submit(std::function<void()> work) override {
    behind_ = true;
    try {
      work();
    } catch (...) {
      behind_ = false;
      throw;
    }
    behind_ = false;
    auto done = std::make_shared<Event>();
    done->record(streams_->own.handle());
    return Ticket(std::async(std::launch::deferred, [this, done = std::move(done)] {
                    done->hold(compute_stream());
                    group_->require_alive("what was submitted");
                  }).share());
  }

  void resign() override { host_->resign(); }

 private:
  struct Streams {
    Stream own{Priority::high};
    Event begin, end;
  };

  static size_t elements(const Buffer& buffer) { return static_cast<size_t>(buffer.count); }

  // The host's group, unless NCCL has failed: then nothing is to go on as if it had not.
  Communicator& on_host(const char* operation) {
    group_->require_alive(operation);
    return *host_;
  }

  template <class Ask>
  void launch(const Call& call, const Ask& ask, bool waits = false) {
    if (call.count == 0 && call.kind != Collective::exchange) return;  // on all ranks alike
    streams_->begin.record(compute_stream());
    streams_->begin.hold(streams_->own.handle());
    group_->ask(text(in_words(call), " on rank ", rank()), [&](ncclComm_t group) {
      return ask(group, static_cast<cudaStream_t>(streams_->own.handle()));
    });
    if (behind_ && !waits) return;
    streams_->end.record(streams_->own.handle());
    streams_->end.hold(compute_stream());
  }

  std::unique_ptr<Communicator> host_;
  std::unique_ptr<Streams> streams_;  // outlive the group, which may have work on them
  std::unique_ptr<Group> group_;
  bool behind_ = false;  // within submit(): the compute stream is not to wait
};

}  // namespace

std::unique_ptr<Communicator> nccl_communicator(std::unique_ptr<Communicator> host) {
  return std::make_unique<Nccl>(std::move(host));
}

}  // namespace lab
