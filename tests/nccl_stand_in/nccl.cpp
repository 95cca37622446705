// NCCL's functions, as far as lab calls them, without a GPU: the ranks' memory is summed for real, but later,
// by the streams of queue.h. What NCCL's documentation asks of callers is checked strictly, beyond what the
// real one notices; who breaks a rule is ended by SIGABRT and told which.
//
// NCCL_STAND_IN_FAULT = WHAT[@N][,rank=R] makes something go wrong on rank R (all, if not said), at its Nth
// launch:
//   init_error, init_hang    while the ranks are brought together
//   error                    the call fails
//   async_error              the call is taken, and fails later
//   hang                     what is launched never ends
//   die                      the process ends by SIGKILL
// NCCL_STAND_IN_COST = SECONDS,BYTES_PER_SECOND: what each launch takes, and its bytes; else next to nothing.
// NCCL_STAND_IN_LOG = FILE: each rank writes its launches, and who waits for them, into FILE.R.

#include <nccl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "lab/core/text.h"
#include "nccl_stand_in/link.h"
#include "nccl_stand_in/queue.h"

using namespace stand_in;

namespace {

struct Fault {
  std::string what;
  int64_t at = 1;
  int rank = -1;
  bool is(const char* name, int here) const { return what == name && (rank < 0 || rank == here); }
};

Fault fault_asked_for() {
  Fault fault;
  const char* value = std::getenv("NCCL_STAND_IN_FAULT");
  if (!value) return fault;
  std::string words = value;
  if (const auto comma = words.find(",rank="); comma != std::string::npos) {
    fault.rank = std::atoi(words.c_str() + comma + 6);
    words.resize(comma);
  }
  if (const auto at = words.find('@'); at != std::string::npos) {
    fault.at = std::atoll(words.c_str() + at + 1);
    words.resize(at);
  }
  fault.what = words;
  return fault;
}

// How long a launch of so many bytes takes.
std::chrono::duration<double> cost_of(size_t bytes) {
  double latency = 0, rate = 0;
  const char* value = std::getenv("NCCL_STAND_IN_COST");
  if (value && std::sscanf(value, "%lf,%lf", &latency, &rate) != 2)
    violation(lab::text("NCCL_STAND_IN_COST is ", value, ", not SECONDS,BYTES_PER_SECOND"));
  return std::chrono::duration<double>(latency + (rate > 0 ? static_cast<double>(bytes) / rate : 0));
}

size_t size_of(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8:
      return 1;
    case ncclFloat16:
    case ncclBfloat16:
      return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32:
      return 4;
    default:
      return 8;
  }
}

enum class Kind { all_reduce, broadcast, all_gather, send, receive };
constexpr const char* names[] = {"AllReduce", "Broadcast", "AllGather", "Send", "Recv"};

struct Op {
  Kind kind;
  const void* from;
  void* to;
  size_t count;
  ncclDataType_t type;
  ncclRedOp_t op;
  int root;  // or peer
  ncclComm_t comm;
  cudaStream_t stream;

  size_t bytes() const { return count * size_of(type); }
  size_t bytes_from() const { return kind == Kind::receive ? 0 : bytes(); }
  size_t bytes_to(int ranks) const {
    return kind == Kind::send ? 0 : kind == Kind::all_gather ? bytes() * static_cast<size_t>(ranks) : bytes();
  }
};

thread_local int group_depth = 0;
thread_local std::vector<Op> group_ops;

}  // namespace

struct ncclComm {
  std::optional<Link> link;
  int rank = 0, ranks = 1;
  std::atomic<ncclResult_t> state = ncclInProgress;
  std::atomic<bool> gone = false;   // aborted: nothing is to be called any more
  std::atomic<int64_t> queued = 0;  // launches that streams have yet to do
  std::string error;
  Fault fault;
  int64_t launches = 0;
  std::thread joining;

  void fail(ncclResult_t code, const std::string& words) {
    error = words;
    state = code;
  }
};

namespace {

// What a launch reads, as it was when it was launched, and what it writes, which holds nothing until it has
// run.
struct Flight {
  Op op;
  std::vector<std::byte> input;
  bool taken = false;  // `input` was read already
  std::vector<std::pair<void*, size_t>> ranges;
};

constexpr auto poison = std::byte{0xFF};  // a NaN in every type of floats

std::byte* bytes_of(void* memory) { return static_cast<std::byte*>(memory); }

// All of a launch at once: they may read the same. What an earlier launch is still to write is read when that
// is done.
std::vector<Flight> take_off(const std::vector<Op>& ops) {
  std::vector<Flight> flights;
  for (const Op& op : ops) {
    Flight flight{op, {}, false, {}};
    const size_t from = op.bytes_from(), to = op.bytes_to(op.comm->ranks);
    if (from) flight.ranges.emplace_back(const_cast<void*>(op.from), from);
    if (to) flight.ranges.emplace_back(op.to, to);
    flight.taken =
        std::ranges::none_of(flight.ranges, [](const auto& r) { return in_flight(r.first, r.second); });
    const auto* first = static_cast<const std::byte*>(op.from);
    if (flight.taken && from) flight.input.assign(first, first + from);
    flights.push_back(std::move(flight));
  }
  for (const Flight& flight : flights)
    for (const auto& [memory, bytes] : flight.ranges) {
      begin_flight(memory, bytes);
      if (flight.taken) std::memset(memory, static_cast<int>(poison), bytes);
    }
  return flights;
}

void require_untouched(const Flight& flight) {
  if (!flight.taken) return;
  for (const auto& [memory, bytes] : flight.ranges)
    for (size_t i = 0; i < bytes; ++i)
      if (bytes_of(memory)[i] != poison)
        violation(lab::text("the memory of an ", names[static_cast<int>(flight.op.kind)],
                            " was written to before it had run"));
}

template <class T>
void reduce(T* to, const T* other, size_t count, ncclRedOp_t op) {
  for (size_t i = 0; i < count; ++i)
    to[i] = op == ncclSum   ? static_cast<T>(to[i] + other[i])
            : op == ncclMin ? std::min(to[i], other[i])
                            : std::max(to[i], other[i]);
}

void reduce_bytes(std::byte* to, const std::byte* other, size_t bytes, const Op& op) {
  const auto as = [&]<class T>(T) {
    reduce(reinterpret_cast<T*>(to), reinterpret_cast<const T*>(other), bytes / sizeof(T), op.op);
  };
  switch (op.type) {
    case ncclUint8:
      return as(uint8_t{});
    case ncclInt32:
      return as(int32_t{});
    case ncclInt64:
      return as(int64_t{});
    case ncclFloat32:
      return as(float{});
    case ncclFloat64:
      return as(double{});
    default:
      violation(lab::text("reductions of NCCL type ", static_cast<int>(op.type), " are not known here"));
  }
}

// In chunks of what a slot holds. False: the others are gone.
bool run_collective(ncclComm& comm, Flight& flight, int64_t number) {
  Link& link = *comm.link;
  const Op& op = flight.op;
  const Description mine{static_cast<int64_t>(op.kind),  op.type, op.op, op.root,
                         static_cast<int64_t>(op.count), number};
  link.own().description = mine;
  if (!link.meet()) return false;
  for (int r = 0; r < link.ranks(); ++r)
    if (!(link.place(r).description == mine))
      violation(lab::text("rank ", r, " launched something else than rank ", link.rank(), "'s ",
                          names[static_cast<int>(op.kind)], " of ", op.count));
  size_t first = 0;
  do {
    const size_t n = std::min(slot_bytes, op.bytes() - first);
    if (op.kind != Kind::broadcast || op.root == link.rank())
      std::memcpy(link.own().slot, flight.input.data() + first, n);
    if (!link.meet()) return false;
    auto* to = bytes_of(op.to) + first;
    if (op.kind == Kind::broadcast) std::memcpy(to, link.place(op.root).slot, n);
    if (op.kind == Kind::all_reduce) {
      std::memcpy(to, link.place(0).slot, n);
      for (int r = 1; r < link.ranks(); ++r) reduce_bytes(to, link.place(r).slot, n, op);
    }
    if (op.kind == Kind::all_gather)
      for (int r = 0; r < link.ranks(); ++r)
        std::memcpy(to + static_cast<size_t>(r) * op.bytes(), link.place(r).slot, n);
    if (!link.meet()) return false;
    first += n;
  } while (first < op.bytes());
  return true;
}

// All sends and receives of a group at once, a piece of each by turns; those between two ranks in their
// order.
bool run_messages(ncclComm& comm, std::vector<Flight>& flights) {
  Link& link = *comm.link;
  std::vector<size_t> done(flights.size(), 0);
  const auto is_first = [&](size_t i) {
    for (size_t k = 0; k < i; ++k)
      if (flights[k].op.kind == flights[i].op.kind && flights[k].op.root == flights[i].op.root &&
          done[k] < flights[k].op.bytes())
        return false;
    return done[i] < flights[i].op.bytes();
  };
  const auto advance = [&](size_t i) {
    const Op& op = flights[i].op;
    const size_t left = op.bytes() - done[i];
    if (op.kind == Kind::send) {
      Mail& mail = link.own().mail[op.root];
      if (mail.bytes) return false;
      const size_t n = std::min(left, mail_bytes);
      std::memcpy(mail.data, flights[i].input.data() + done[i], n);
      mail.whole = op.bytes();
      mail.bytes = n;
      done[i] += n;
      return true;
    }
    Mail& mail = link.place(op.root).mail[link.rank()];
    const size_t n = mail.bytes;
    if (!n) return false;
    if (mail.whole != op.bytes())
      violation(lab::text("rank ", op.root, " sends ", mail.whole.load(), " bytes where rank ", link.rank(),
                          " receives ", op.bytes()));
    std::memcpy(bytes_of(op.to) + done[i], mail.data, n);
    mail.bytes = 0;
    done[i] += n;
    return true;
  };
  size_t open = flights.size();
  return link.poll([&] {
    for (bool moved = true; moved;) {
      moved = false;
      open = 0;
      for (size_t i = 0; i < flights.size(); ++i) {
        if (is_first(i) && advance(i)) moved = true;
        if (done[i] < flights[i].op.bytes()) ++open;
      }
    }
    return open == 0;
  });
}

// A launch's turn on its stream.
void land(ncclComm& comm, std::vector<Flight>& flights, int64_t number, const std::string& fault) {
  usleep(static_cast<useconds_t>(number * 7919 % 300));  // not at once, and not always as late
  size_t moved = 0;
  for (const Flight& flight : flights) moved += flight.op.bytes();
  std::this_thread::sleep_for(cost_of(moved));
  while (fault == "hang" && !comm.gone && !comm.link->board().aborted) usleep(1000);
  if (fault == "async_error") comm.fail(ncclRemoteError, "a fault that was asked for");
  for (Flight& flight : flights) {
    require_untouched(flight);
    const auto* first = static_cast<const std::byte*>(flight.op.from);
    if (!flight.taken && flight.op.bytes_from()) flight.input.assign(first, first + flight.op.bytes_from());
  }
  bool good = !comm.gone && comm.state == ncclSuccess;
  if (good)
    good = flights.front().op.kind >= Kind::send ? run_messages(comm, flights)
                                                 : run_collective(comm, flights.front(), number);
  for (const Flight& flight : flights) {
    const Op& op = flight.op;
    const bool reads_only = op.kind == Kind::send || (op.from != op.to && op.kind != Kind::all_gather);
    if (good && reads_only && flight.taken && op.bytes_from())  // has its bytes again
      std::memcpy(const_cast<void*>(op.from), flight.input.data(), flight.input.size());
  }
  for (const Flight& flight : flights)
    for (const auto& [memory, bytes] : flight.ranges) end_flight(memory, bytes);
  if (!good && comm.state == ncclSuccess && !comm.gone) comm.fail(ncclRemoteError, "another rank is gone");
  --comm.queued;
}

ncclResult_t launch(std::vector<Op> ops) {
  ncclComm& comm = *ops.front().comm;
  const cudaStream_t stream = ops.front().stream;
  const int64_t number = ++comm.launches;
  const bool faulty = comm.fault.at == number;
  if (faulty && comm.fault.is("error", comm.rank)) {
    comm.fail(ncclSystemError, "a fault that was asked for");
    return ncclSystemError;
  }
  if (faulty && comm.fault.is("die", comm.rank)) raise(SIGKILL);
  std::string fault;
  for (const char* name : {"hang", "async_error"})
    if (faulty && comm.fault.is(name, comm.rank)) fault = name;
  const auto queue = reinterpret_cast<Queue*>(stream);
  if (queue == compute_queue() || !queue)
    violation("a launch on the compute stream: what it computes would wait");
  if (queue->holds == 0)
    violation(
        "a launch on a stream that waits for no event of the compute stream: it may read what is not made "
        "yet");
  for (const Op& op : ops)
    note(lab::text(names[static_cast<int>(op.kind)], " of ", op.count, ", type ", static_cast<int>(op.type),
                   ", op ", static_cast<int>(op.op), ", rank ", op.root, ", behind ", queue->holds,
                   " event"));
  queue->holds = 0;
  ++comm.queued;
  queue->push(
      [&comm, flights = take_off(ops), number, fault]() mutable { land(comm, flights, number, fault); });
  return ncclSuccess;
}

ncclResult_t add(Op op) {
  if (!op.comm) violation("a call without a group");
  if (op.comm->gone) violation("a call after ncclCommAbort");
  if (op.comm->state == ncclInProgress) violation("a call while the group is in progress");
  if (op.comm->state != ncclSuccess) return op.comm->state;
  if (op.bytes_from() && !in_device_memory(op.from, op.bytes_from()))
    violation(lab::text(names[static_cast<int>(op.kind)], " reads memory that is not the device's"));
  if (const size_t to = op.bytes_to(op.comm->ranks); to && !in_device_memory(op.to, to))
    violation(lab::text(names[static_cast<int>(op.kind)], " writes memory that is not the device's"));
  op.from = reached(op.from);
  op.to = reached(op.to);
  if (op.root < 0 || op.root >= op.comm->ranks) violation(lab::text("there is no rank ", op.root));
  if (group_depth == 0) return launch({op});
  if (op.kind < Kind::send) violation("a collective within a group of messages");
  if (!group_ops.empty() && (group_ops.front().comm != op.comm || group_ops.front().stream != op.stream))
    violation("a group of several communicators or streams");
  group_ops.push_back(op);
  return ncclSuccess;
}

// What ncclGetUniqueId has made in this process, until the process ends.
std::vector<std::shared_ptr<lab::SharedSegment>>& made() {
  static auto& all = *new std::vector<std::shared_ptr<lab::SharedSegment>>;
  return all;
}

// Until all ranks are here.
void join(ncclComm& comm, const lab::SegmentAddress& address) try {
  if (comm.fault.is("init_error", comm.rank)) return comm.fail(ncclSystemError, "a fault that was asked for");
  while (comm.fault.is("init_hang", comm.rank) && !comm.gone) usleep(1000);
  comm.link.emplace(lab::SharedSegment::open(address, sizeof(Board)), comm.rank, comm.ranks);
  Board& board = comm.link->board();
  int32_t expected = 0;
  if (!board.ranks.compare_exchange_strong(expected, comm.ranks) && expected != comm.ranks)
    violation(lab::text("one rank joins a group of ", comm.ranks, ", another one of ", expected));
  int32_t nobody = 0;
  if (!comm.link->own().pid.compare_exchange_strong(nobody, getpid()))
    violation(lab::text("two processes are rank ", comm.rank));
  const bool all = comm.link->poll([&] {
    for (int r = 0; r < comm.ranks; ++r)
      if (comm.link->place(r).pid == 0) return comm.gone.load();
    return true;
  });
  if (all && !comm.gone)
    comm.state = ncclSuccess;
  else
    comm.fail(ncclRemoteError, "another rank is gone");
} catch (const std::exception& error) {
  comm.fail(ncclSystemError, error.what());
}

}  // namespace

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  made().push_back(lab::SharedSegment::make(sizeof(Board)));
  const lab::SegmentAddress address = made().back()->address();
  static_assert(sizeof address <= sizeof id->internal);
  std::memcpy(id->internal, &address, sizeof address);
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  if (rank < 0 || rank >= ranks || ranks > most_ranks) violation(lab::text("rank ", rank, " of ", ranks));
  if (!config || config->magic != 0xcafebeef) violation("a config that was not initialized");
  if (config->blocking != 0) violation("a group that blocks its callers");
  *comm = new ncclComm;
  (*comm)->rank = rank;
  (*comm)->ranks = ranks;
  (*comm)->fault = fault_asked_for();
  lab::SegmentAddress address;
  std::memcpy(&address, id.internal, sizeof address);
  (*comm)->joining = std::thread([c = *comm, address] { join(*c, address); });
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  if (comm->gone) violation("ncclCommGetAsyncError after ncclCommAbort");
  *state = comm->state;
  return ncclSuccess;
}

// The memory of a group stays, so that a call after its end is seen.
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  if (comm->gone.exchange(true)) violation("ncclCommAbort twice");
  const bool at_work = comm->queued > 0 || comm->state != ncclSuccess;
  if (comm->joining.joinable()) comm->joining.join();
  if (comm->link && at_work) comm->link->abort();
  while (comm->queued > 0) usleep(100);
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t code) {
  constexpr const char* words[] = {"no error",
                                   "unhandled cuda error",
                                   "unhandled system error",
                                   "internal error",
                                   "invalid argument",
                                   "invalid usage",
                                   "remote process exited or there was a network error",
                                   "NCCL operation in progress"};
  return words[code];
}

const char* ncclGetLastError(ncclComm_t comm) { return comm ? comm->error.c_str() : ""; }

ncclResult_t ncclGroupStart() {
  ++group_depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (group_depth == 0) violation("ncclGroupEnd without ncclGroupStart");
  if (--group_depth > 0 || group_ops.empty()) return ncclSuccess;
  return launch(std::exchange(group_ops, {}));
}

ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
  return add({Kind::all_reduce, from, to, count, type, op, 0, comm, stream});
}

ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  return add({Kind::broadcast, from, to, count, type, ncclSum, root, comm, stream});
}

ncclResult_t ncclAllGather(const void* from, void* to, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  return add({Kind::all_gather, from, to, count, type, ncclSum, 0, comm, stream});
}

ncclResult_t ncclSend(const void* from, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return add({Kind::send, from, nullptr, count, type, ncclSum, peer, comm, stream});
}

ncclResult_t ncclRecv(void* to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return add({Kind::receive, nullptr, to, count, type, ncclSum, peer, comm, stream});
}

}  // extern "C"
