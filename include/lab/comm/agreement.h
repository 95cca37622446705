#pragma once
// One rank's error becomes everyone's: the end of each phase before training.

#include <exception>
#include <functional>
#include <span>
#include <string>

#include "lab/comm/communicator.h"
#include "lab/core/error.h"

namespace lab {

// An error that all ranks know of: each throws it, with the same code and message. Rank 0 reports it, the
// others stay silent, and all leave in good order.
class AgreedError : public Error {
 public:
  using Error::Error;
};

// Runs `work` here and then asks the others how theirs went. When it threw somewhere, throws AgreedError
// everywhere with the lowest such rank's message (naming the rank when not all of them failed). Every rank
// must call, with work that does not communicate before it may throw.
void agree(Communicator& comm, const std::function<void()>& work);

// The bytes that `root` has, on every rank. Every rank must call.
std::string broadcast_bytes(Communicator& comm, const std::string& bytes, int root = 0);

// Something that must be the same on every rank: text, in lines if it is long.
struct AgreedPart {
  std::string name, value;
};

// Compares the parts over all ranks, in one collective unless they differ. Then throws AgreedError
// (disagreement) everywhere in the same words: for each part that differs which ranks have another value than
// most (than rank 0, where as many have either), and the first line in which it differs. Every rank must call
// with the same names in the same order, 16 at most.
void require_equal(Communicator& comm, std::span<const AgreedPart> parts);
inline void require_equal(Communicator& comm, const AgreedPart& part) { require_equal(comm, {&part, 1}); }

}  // namespace lab
