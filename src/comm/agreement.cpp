#include "lab/comm/agreement.h"

#include <xxhash.h>

#include <algorithm>
#include <sstream>
#include <vector>

#include "lab/core/errand.h"

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
  const Errand errand("agreement");
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

namespace {

// The same in every version: the ranks may be of different ones.
constexpr size_t most_parts = 16;

std::vector<std::string> lines_of(const std::string& value) {
  std::vector<std::string> lines;
  std::istringstream in(value);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::string shown(const std::vector<std::string>& lines, size_t i) {
  constexpr size_t most = 200;
  if (i >= lines.size()) return "nothing";
  return lines[i].size() <= most ? lines[i] : lines[i].substr(0, most) + "...";
}

// "A, not B": the first line that differs.
std::string compared(const std::string& theirs, const std::string& most) {
  const auto left = lines_of(theirs), right = lines_of(most);
  size_t i = 0;
  while (i < left.size() && i < right.size() && left[i] == right[i]) ++i;
  return text(shown(left, i), ", not ", shown(right, i));
}

// "" where all ranks have the same sum; else what differs, on every rank in the same words.
std::string difference(Communicator& comm, const AgreedPart& part, const std::vector<int64_t>& sums) {
  const auto shared_by = [&](int64_t sum) { return std::ranges::count(sums, sum); };
  const auto reference = std::ranges::max_element(sums, {}, shared_by);  // the first of several
  std::vector<int64_t> others;
  for (size_t rank = 0; rank < sums.size(); ++rank)
    if (sums[rank] != *reference) others.push_back(static_cast<int64_t>(rank));
  if (others.empty()) return "";
  const auto reference_rank = static_cast<int>(reference - sums.begin());
  const std::string most = broadcast_bytes(comm, part.value, reference_rank);
  const std::string theirs = broadcast_bytes(comm, part.value, static_cast<int>(others.front()));
  const bool one = others.size() == 1;
  return text(one ? "rank " : "ranks ", short_list(others), one ? " has another " : " have another ",
              part.name,
              sums.size() - others.size() == 1 ? text(" than rank ", reference_rank) : " than the others",
              ": ", compared(theirs, most));
}

}  // namespace

void require_equal(Communicator& comm, std::span<const AgreedPart> parts) {
  if (parts.size() > most_parts) throw Bug(parts.size(), " parts to agree on, at most ", most_parts);
  const Errand errand("agreement");
  const auto ranks = static_cast<size_t>(comm.size());
  std::vector<int64_t> all(ranks * most_parts, 0);
  for (size_t i = 0; i < parts.size(); ++i)
    all[static_cast<size_t>(comm.rank()) * most_parts + i] =
        static_cast<int64_t>(XXH3_64bits(parts[i].value.data(), parts[i].value.size()));
  comm.all_gather({all.data(), std::ssize(all), DType::i64});
  std::vector<std::string> differences;
  for (size_t i = 0; i < most_parts; ++i) {
    std::vector<int64_t> sums;
    for (size_t rank = 0; rank < ranks; ++rank) sums.push_back(all[rank * most_parts + i]);
    const AgreedPart& part = i < parts.size() ? parts[i] : AgreedPart{"list of parts to agree on", ""};
    if (const std::string found = difference(comm, part, sums); !found.empty()) differences.push_back(found);
  }
  if (differences.empty()) return;
  const std::string all_differences =
      text("the ranks do not agree:\n  ", join(differences, "\n  "),
           "\nstart all ranks with the same program, command line, config and data");
  // Another version may call a part otherwise: what rank 0 says is said.
  throw AgreedError(ExitCode::disagreement, broadcast_bytes(comm, all_differences));
}

}  // namespace lab
