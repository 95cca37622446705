#include "comm/mpi_calls.h"

#include <time.h>

#include <algorithm>
#include <chrono>

#include "lab/comm/lane.h"
#include "lab/core/error.h"

namespace lab {

void check_mpi(int code, const char* operation) {
  if (code == MPI_SUCCESS) return;
  char message[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, message, &length);
  throw IoError("MPI failed in ", operation, ": ", message);
}

MPI_Comm split(MPI_Comm comm, int color) {
  int rank = 0;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm part = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split(comm, color < 0 ? MPI_UNDEFINED : color, rank, &part), "MPI_Comm_split");
  return part;
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

MPI_Request begin_receive(MPI_Comm comm, Buffer to, int from, int tag) {
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(MPI_Irecv(to.data, static_cast<int>(to.count), mpi_type(to.type), from, tag, comm, &request),
            "MPI_Irecv");
  return request;
}

MPI_Request begin_send(MPI_Comm comm, Buffer from, int to, int tag) {
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(MPI_Isend(from.data, static_cast<int>(from.count), mpi_type(from.type), to, tag, comm, &request),
            "MPI_Isend");
  return request;
}

// Ranks may outnumber cores, and the owner computes meanwhile. Who sleeps is back at once when the time is
// up; who yields, only at the next tick of the scheduler's clock, if another computes. What took long so far
// will not be over in a moment, and each look costs the owner's core some microseconds: pauses grow with the
// wait.
void wait_all(std::vector<MPI_Request>& requests, const char* operation, Start start) {
  using std::chrono::nanoseconds;
  constexpr nanoseconds shortest{20'000}, longest{2'000'000};
  const int looks = in_lane() ? 3 : 50;
  for (int64_t round = 0;; ++round) {
    int done = 0;
    check_mpi(MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE),
              operation);
    if (done) return;
    if (round < looks) continue;
    const nanoseconds waited = std::chrono::steady_clock::now() - start;
    const timespec pause{0, std::clamp(waited / 16, shortest, longest).count()};
    nanosleep(&pause, nullptr);
  }
}

}  // namespace lab
