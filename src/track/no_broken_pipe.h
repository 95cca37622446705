#pragma once
// SIGPIPE kept from a thread.

#include <signal.h>

namespace lab::detail {

// A write to a closed connection within TLS may raise SIGPIPE, which would end the process. It goes to the
// thread that wrote: held back there as long as this lives, and taken away, it harms nobody and changes
// nothing for other threads.
class NoBrokenPipe {
 public:
  NoBrokenPipe();
  ~NoBrokenPipe();
  NoBrokenPipe(const NoBrokenPipe&) = delete;
  NoBrokenPipe& operator=(const NoBrokenPipe&) = delete;

 private:
  sigset_t pipe_, before_;
  bool was_pending_ = false;
};

}  // namespace lab::detail
