#include <mpi.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <vector>

#include "comm/backends.h"
#include "comm/bf16_sum.h"
#include "comm/call.h"
#include "comm/mpi_calls.h"
#include "comm/mpi_sum.h"
#include "lab/comm/lane.h"
#include "lab/core/error.h"

namespace lab {
namespace {

MPI_Op mpi_op(ReduceOp op) {
  switch (op) {
    case ReduceOp::min:
      return MPI_MIN;
    case ReduceOp::max:
      return MPI_MAX;
    default:
      return MPI_SUM;
  }
}

template <class Start>  // MPI_Request start(Buffer piece)
void in_pieces(Buffer buffer, std::vector<MPI_Request>& requests, const Start& start) {
  for (int64_t first = 0; first < buffer.count; first += most_elements)
    requests.push_back(start(buffer.slice(first, std::min(most_elements, buffer.count - first))));
}

// A rank's collective as the others are told of it: how many there were, itself among them, and the call.
using Notice = std::array<int64_t, 6>;

Notice notice_of(int64_t sequence, const Call& call) {
  return {sequence,
          static_cast<int64_t>(call.kind),
          static_cast<int64_t>(call.type),
          static_cast<int64_t>(call.op),
          call.root,
          call.count};
}

Call call_of(const Notice& notice) {
  return {static_cast<Collective>(notice[1]), static_cast<DType>(notice[2]), static_cast<ReduceOp>(notice[3]),
          static_cast<int32_t>(notice[4]), notice[5]};
}

// The number where it alone differs.
std::string place_of(const Notice& notice, bool same_call) {
  return in_words(call_of(notice)) + (same_call ? text(" as collective ", notice[0]) : "");
}

class Mpi final : public Communicator {
 public:
  Mpi(MPI_Comm job, MPI_Comm comm) : job_(job), comm_(comm) {
    MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
    MPI_Comm_rank(comm_, &rank_);
    MPI_Comm_size(comm_, &size_);
    if (size_ == 1) return;
    check_mpi(MPI_Comm_dup(comm_, &notices_), "MPI_Comm_dup");
    MPI_Comm_set_errhandler(notices_, MPI_ERRORS_RETURN);
  }
  // MPI's groups are not freed: that would be a collective in a destructor.

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const char* name() const override { return "mpi"; }

  void all_reduce(Buffer buffer, ReduceOp op) override {
    meet({Collective::all_reduce, buffer.type, op, 0, buffer.count});
    if (SegmentedSum::suits(buffer, size_)) return segmented_sum_.all_reduce(comm_, buffer, op);
    std::vector<MPI_Request> requests;
    in_pieces(buffer, requests, [&](Buffer piece) {
      MPI_Request request = MPI_REQUEST_NULL;
      check_mpi(MPI_Iallreduce(MPI_IN_PLACE, piece.data, static_cast<int>(piece.count), mpi_type(piece.type),
                               mpi_op(op), comm_, &request),
                "MPI_Iallreduce");
      return request;
    });
    wait_all(requests, "all-reduce");
  }

  void all_reduce_bf16(Buffer sums) override { bf16_sum_.all_reduce(*this, sums); }

  void broadcast(Buffer buffer, int root) override {
    meet({Collective::broadcast, buffer.type, {}, root, buffer.count});
    std::vector<MPI_Request> requests;
    in_pieces(buffer, requests, [&](Buffer piece) {
      MPI_Request request = MPI_REQUEST_NULL;
      check_mpi(
          MPI_Ibcast(piece.data, static_cast<int>(piece.count), mpi_type(piece.type), root, comm_, &request),
          "MPI_Ibcast");
      return request;
    });
    wait_all(requests, "broadcast");
  }

  void all_gather(Buffer all) override {
    const int64_t part = all.count / size_;
    if (part > most_elements) throw Bug("all-gather of ", part, " elements per rank");
    meet({Collective::all_gather, all.type, {}, 0, all.count});
    std::vector<MPI_Request> requests(1);
    check_mpi(MPI_Iallgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, all.data, static_cast<int>(part),
                             mpi_type(all.type), comm_, requests.data()),
              "MPI_Iallgather");
    wait_all(requests, "all-gather");
  }

  void exchange(std::span<const Message> sends, std::span<const Message> receives) override {
    meet({.kind = Collective::exchange});
    std::vector<MPI_Request> requests;
    for (const auto& [peer, buffer] : receives)
      in_pieces(buffer, requests,
                [&, from = peer](Buffer piece) { return begin_receive(comm_, piece, from, 0); });
    for (const auto& [peer, buffer] : sends)
      in_pieces(buffer, requests, [&, to = peer](Buffer piece) { return begin_send(comm_, piece, to, 0); });
    wait_all(requests, "exchange");
  }

  void barrier() override { meet({.kind = Collective::barrier}); }  // which nobody leaves before all came

  // Nothing to meet for: who calls these alone is told at the next collective, by its number.
  BufferMemory allocate(int64_t bytes) override {
    ++sequence_;
    return plain_memory(bytes);
  }
  std::vector<std::vector<Buffer>> view(std::span<const Buffer>) override {
    ++sequence_;
    return {};
  }

  Ticket submit(std::function<void()> work) override { return lane_.submit(std::move(work)); }

  void resign() override {
    lane_.drain();
    if (ended_) return;
    try {
      meet(resignation());
    } catch (const PeerResigned&) {
    } catch (const Disagreement&) {
    }
  }

 private:
  // Before any data moves: Disagreement or PeerResigned, on every rank, where not all came for the same.
  void meet(const Call& call) {
    sequence_ += 1;
    if (size_ == 1) return;
    const Notice mine = notice_of(sequence_, call);
    const uint64_t hash = XXH3_64bits(mine.data(), sizeof mine);
    std::array<uint64_t, 2> bounds = {hash, ~hash};  // the least of all ranks', and the greatest inverted
    std::vector<MPI_Request> requests(1);
    check_mpi(
        MPI_Iallreduce(MPI_IN_PLACE, bounds.data(), 2, MPI_UINT64_T, MPI_MIN, notices_, requests.data()),
        "MPI_Iallreduce");
    wait_all(requests, "the comparison of collectives");
    if (call != resignation() && bounds[0] == ~bounds[1]) return;
    ended_ = true;
    if (bounds[0] != ~bounds[1]) disagree(mine);
  }

  void disagree(const Notice& mine) {
    std::vector<Notice> all(static_cast<size_t>(size_));
    all[static_cast<size_t>(rank_)] = mine;
    std::vector<MPI_Request> requests(1);
    check_mpi(MPI_Iallgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, all.data(), static_cast<int>(mine.size()),
                             MPI_INT64_T, notices_, requests.data()),
              "MPI_Iallgather");
    wait_all(requests, "the comparison of collectives");
    for (int other = 0; other < size_; ++other)
      if (call_of(all[static_cast<size_t>(other)]) == resignation()) throw PeerResigned(job_rank(other));
    for (int other = 0; other < size_; ++other) {
      const Notice& theirs = all[static_cast<size_t>(other)];
      const bool same_call = call_of(theirs) == call_of(mine);
      if (theirs != mine)
        throw disagreement(job_rank(other), place_of(theirs, same_call), job_rank(rank_),
                           place_of(mine, same_call));
    }
  }

  int job_rank(int rank) const {
    MPI_Group ours = MPI_GROUP_NULL, job = MPI_GROUP_NULL;
    MPI_Comm_group(comm_, &ours);
    MPI_Comm_group(job_, &job);
    int out = rank;
    MPI_Group_translate_ranks(ours, 1, &rank, job, &out);
    MPI_Group_free(&ours);
    MPI_Group_free(&job);
    return out;
  }

  MPI_Comm job_ = MPI_COMM_NULL;  // by whose ranks ours are named
  MPI_Comm comm_ = MPI_COMM_NULL, notices_ = MPI_COMM_NULL;
  int rank_ = 0, size_ = 1;
  int64_t sequence_ = 0;  // of the collectives of this group
  bool ended_ = false;    // all ranks know that they can't go on
  SegmentedSum segmented_sum_;
  Bf16Sum bf16_sum_;
  Lane lane_;
};

}  // namespace

std::unique_ptr<Communicator> mpi_communicator(const MpiRanks& job, int color) {
  const MPI_Comm comm = split(job.comm, color);
  return comm == MPI_COMM_NULL ? nullptr : std::make_unique<Mpi>(job.comm, comm);
}

std::unique_ptr<Communicator> mpi_communicator(int color) {
  return mpi_communicator({MPI_COMM_WORLD}, color);
}

}  // namespace lab
