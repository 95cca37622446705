#include "lab/comm/agreement.h"

#include <algorithm>
#include <vector>

namespace lab {
namespace {

struct Outcome {
  int64_t code = 0;
  std::string message;
};

Outcome outcome_of(const std::function<void()>& work) {
  try {
    work();
    return {};
  } catch (const Error& e) {
    return {static_cast<int64_t>(e.code()), e.what()};
  } catch (const std::exception& e) {
    return {static_cast<int64_t>(ExitCode::bug), text("unexpected error: ", e.what())};
  }
}

}  // namespace

std::string broadcast_bytes(Communicator& comm, const std::string& bytes, int root) {
  int64_t size = static_cast<int64_t>(bytes.size());
  comm.broadcast({&size, 1, DType::i64}, root);
  std::string out = bytes;
  out.resize(static_cast<size_t>(size));
  comm.broadcast({out.data(), size, DType::u8}, root);
  return out;
}

void agree(Communicator& comm, const std::function<void()>& work) {
  const Outcome mine = outcome_of(work);
  std::vector<int64_t> codes(static_cast<size_t>(comm.size()), 0);
  codes[static_cast<size_t>(comm.rank())] = mine.code;
  comm.all_gather({codes.data(), comm.size(), DType::i64});
  const auto failed = std::find_if(codes.begin(), codes.end(), [](int64_t code) { return code != 0; });
  if (failed == codes.end()) return;
  const int rank = static_cast<int>(failed - codes.begin());
  const std::string message = broadcast_bytes(comm, mine.message, rank);
  const bool all = std::count(codes.begin(), codes.end(), 0) == 0;
  throw AgreedError(static_cast<ExitCode>(*failed),
                    all || rank == 0 ? message : text("rank ", rank, ": ", message));
}

void require_equal(Communicator& comm, const std::string& what, uint64_t value) {
  std::vector<int64_t> values(static_cast<size_t>(comm.size()), 0);
  values[static_cast<size_t>(comm.rank())] = static_cast<int64_t>(value);
  comm.all_gather({values.data(), comm.size(), DType::i64});
  for (size_t r = 1; r < values.size(); ++r)
    if (values[r] != values[0])
      throw AgreedError(
          ExitCode::disagreement,
          text("rank ", r, " has another ", what,
               " than rank 0; all ranks must run the same program on the same configuration and data"));
}

}  // namespace lab
