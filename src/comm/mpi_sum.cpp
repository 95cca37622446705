#include "comm/mpi_sum.h"

#include <algorithm>

#include "comm/fold.h"
#include "comm/mpi_calls.h"

namespace lab {
namespace {

constexpr const char* name = "all-reduce";
constexpr int64_t least_piece_bytes = 16 << 10;
constexpr int64_t good_piece_bytes = 64 << 10;  // of several segments
constexpr int64_t most_segments = 8;

int64_t segments_of(int64_t bytes, int ranks) {  // pieces of fewer bytes than MPI takes elements
  const int64_t good = std::clamp(bytes / (ranks * good_piece_bytes), int64_t{1}, most_segments);
  return std::max(good, bytes / (ranks * most_elements) + 1);
}

// A group's rank among its others, and the messages of one segment.
struct Link {
  MPI_Comm comm = MPI_COMM_NULL;
  int rank = 0, ranks = 1, tag = 0;

  MPI_Request receive(Buffer to, int from) const { return begin_receive(comm, to, from, tag); }
  MPI_Request send(Buffer from, int to) const { return begin_send(comm, from, to, tag); }
  // Not all begin with the same.
  int other(int step) const { return (rank + step) % ranks; }
};

}  // namespace

struct SegmentedSum::Segment {
  Link link;
  Buffer all;
  std::vector<Buffer> parts;  // of this rank's piece, by rank
  std::vector<MPI_Request> requests;

  Buffer piece(int rank) const {
    const Range range = shard(all.count, rank, link.ranks);
    return all.slice(range.first, range.count);
  }

  // `room`: for the piece, so many times as there are others.
  void gather_parts(std::byte* room) {
    const Buffer mine = piece(link.rank);
    parts.assign(static_cast<size_t>(link.ranks), mine);
    for (int step = 1; step < link.ranks; ++step) {
      Buffer& part = parts[static_cast<size_t>(link.other(step))];
      part.data = room + (step - 1) * mine.bytes();
      requests.push_back(link.receive(part, link.other(step)));
    }
    for (int step = 1; step < link.ranks; ++step)
      requests.push_back(link.send(piece(link.other(step)), link.other(step)));
  }

  void add_up_and_spread(ReduceOp op, Start start) {
    wait_all(requests, name, start);
    requests.clear();
    for (int step = 1; step < link.ranks; ++step)
      requests.push_back(link.receive(piece(link.other(step)), link.other(step)));
    const Buffer mine = piece(link.rank);
    fold(op, parts, {&mine, 1});
    for (int step = 1; step < link.ranks; ++step) requests.push_back(link.send(mine, link.other(step)));
  }
};

bool SegmentedSum::suits(const Buffer& buffer, int ranks) {
  return ranks > 1 && buffer.bytes() / ranks >= least_piece_bytes;
}

void SegmentedSum::all_reduce(MPI_Comm comm, Buffer buffer, ReduceOp op) {
  Link link{.comm = comm};
  MPI_Comm_rank(comm, &link.rank);
  MPI_Comm_size(comm, &link.ranks);
  const int64_t count = segments_of(buffer.bytes(), link.ranks);
  const int64_t longest = (shard(buffer.count, 0, count).count + link.ranks - 1) / link.ranks;
  const int64_t stride = (link.ranks - 1) * longest * size_of(buffer.type);
  room_.resize(std::max(room_.size(), static_cast<size_t>(count * stride)));
  std::vector<Segment> segments;
  for (int64_t s = 0; s < count; ++s) {
    link.tag = static_cast<int>(s) + 1;
    const Range range = shard(buffer.count, s, count);
    segments.push_back({link, buffer.slice(range.first, range.count), {}, {}});
    segments.back().gather_parts(room_.data() + s * stride);
  }
  const Start start = std::chrono::steady_clock::now();
  for (Segment& segment : segments) segment.add_up_and_spread(op, start);
  for (Segment& segment : segments) wait_all(segment.requests, name, start);
}

}  // namespace lab
