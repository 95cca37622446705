#include "comm/call.h"

#include <array>

namespace lab {

std::string in_words(const Call& call) {
  std::string out = name_of(call.kind);
  if (call.kind == Collective::barrier || call.kind == Collective::exchange) return out;
  if (call.kind == Collective::all_reduce) {
    constexpr std::array ops = {"sum", "min", "max"};
    out += text(" (", ops.at(static_cast<size_t>(call.op)), ")");
  }
  if (call.kind == Collective::broadcast) out += text(" from ", call.root);
  return out + text(" of ", call.count, ' ', name_of(call.type));
}

Disagreement disagreement(int theirs, const std::string& their_place, int mine, const std::string& my_place) {
  return Disagreement("rank ", theirs, " is in ", their_place, " where rank ", mine, " is in ", my_place,
                      "; all ranks must run the same program on the same configuration and data");
}

}  // namespace lab
