#include <mpi.h>
#include <sched.h>
#include <time.h>

#include <algorithm>
#include <vector>

#include "comm/backends.h"
#include "comm/bf16_sum.h"
#include "lab/comm/lane.h"
#include "lab/core/error.h"

namespace lab {
namespace {

constexpr int64_t most_elements = int64_t{1} << 30;  // MPI counts are ints

void check(int code, const char* operation) {
  if (code == MPI_SUCCESS) return;
  char message[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, message, &length);
  throw IoError("MPI failed in ", operation, ": ", message);
}

MPI_Datatype mpi_type(DType type) {
  switch (type) {
    case DType::u8:
      return MPI_UINT8_T;
    case DType::i64:
      return MPI_INT64_T;
    case DType::f32:
      return MPI_FLOAT;
    case DType::f64:
      return MPI_DOUBLE;
    default:
      throw Bug("elements of type ", name_of(type), " cannot be sent by the mpi backend");
  }
}

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

// Waits without keeping the core from who needs it: ranks may outnumber cores, and the owner computes
// meanwhile.
void wait_all(std::vector<MPI_Request>& requests, const char* operation) {
  for (int64_t round = 0;; ++round) {
    int done = 0;
    check(MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE),
          operation);
    if (done) return;
    if (round < 2000) {
      sched_yield();
    } else {
      const timespec pause{0, 50'000};
      nanosleep(&pause, nullptr);
    }
  }
}

template <class Call>  // MPI_Request call(Buffer piece)
void in_pieces(Buffer buffer, std::vector<MPI_Request>& requests, const Call& call) {
  for (int64_t first = 0; first < buffer.count; first += most_elements)
    requests.push_back(call(buffer.slice(first, std::min(most_elements, buffer.count - first))));
}

class Mpi final : public Communicator {
 public:
  explicit Mpi(MPI_Comm comm) : comm_(comm) {
    MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
    MPI_Comm_rank(comm_, &rank_);
    MPI_Comm_size(comm_, &size_);
  }
  // MPI's group is not freed: that would be a collective in a destructor.

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const char* name() const override { return "mpi"; }

  void all_reduce(Buffer buffer, ReduceOp op) override {
    std::vector<MPI_Request> requests;
    in_pieces(buffer, requests, [&](Buffer piece) {
      MPI_Request request = MPI_REQUEST_NULL;
      check(MPI_Iallreduce(MPI_IN_PLACE, piece.data, static_cast<int>(piece.count), mpi_type(piece.type),
                           mpi_op(op), comm_, &request),
            "MPI_Iallreduce");
      return request;
    });
    wait_all(requests, "all-reduce");
  }

  void all_reduce_bf16(Buffer sums) override { bf16_sum_.all_reduce(*this, sums); }

  void broadcast(Buffer buffer, int root) override {
    std::vector<MPI_Request> requests;
    in_pieces(buffer, requests, [&](Buffer piece) {
      MPI_Request request = MPI_REQUEST_NULL;
      check(
          MPI_Ibcast(piece.data, static_cast<int>(piece.count), mpi_type(piece.type), root, comm_, &request),
          "MPI_Ibcast");
      return request;
    });
    wait_all(requests, "broadcast");
  }

  void all_gather(Buffer all) override {
    const int64_t part = all.count / size_;
    if (part > most_elements) throw Bug("all-gather of ", part, " elements per rank");
    std::vector<MPI_Request> requests(1);
    check(MPI_Iallgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, all.data, static_cast<int>(part),
                         mpi_type(all.type), comm_, requests.data()),
          "MPI_Iallgather");
    wait_all(requests, "all-gather");
  }

  void exchange(std::span<const Message> sends, std::span<const Message> receives) override {
    std::vector<MPI_Request> requests;
    for (const auto& [peer, buffer] : receives)
      in_pieces(buffer, requests, [&, to = peer](Buffer piece) {
        MPI_Request request = MPI_REQUEST_NULL;
        check(MPI_Irecv(piece.data, static_cast<int>(piece.count), mpi_type(piece.type), to, 0, comm_,
                        &request),
              "MPI_Irecv");
        return request;
      });
    for (const auto& [peer, buffer] : sends)
      in_pieces(buffer, requests, [&, to = peer](Buffer piece) {
        MPI_Request request = MPI_REQUEST_NULL;
        check(MPI_Isend(piece.data, static_cast<int>(piece.count), mpi_type(piece.type), to, 0, comm_,
                        &request),
              "MPI_Isend");
        return request;
      });
    wait_all(requests, "exchange");
  }

  void barrier() override {
    std::vector<MPI_Request> requests(1);
    check(MPI_Ibarrier(comm_, requests.data()), "MPI_Ibarrier");
    wait_all(requests, "barrier");
  }

  BufferMemory allocate(int64_t bytes) override { return plain_memory(bytes); }
  std::vector<std::vector<Buffer>> view(std::span<const Buffer>) override { return {}; }

  Ticket submit(std::function<void()> work) override { return lane_.submit(std::move(work)); }

 private:
  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0, size_ = 1;
  Bf16Sum bf16_sum_;
  Lane lane_;
};

}  // namespace

std::unique_ptr<Communicator> mpi_communicator(int color) {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm comm = MPI_COMM_NULL;
  check(MPI_Comm_split(MPI_COMM_WORLD, color < 0 ? MPI_UNDEFINED : color, rank, &comm), "MPI_Comm_split");
  return comm == MPI_COMM_NULL ? nullptr : std::make_unique<Mpi>(comm);
}

}  // namespace lab
