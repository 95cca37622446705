#include "track/no_broken_pipe.h"

#include <ctime>

namespace lab::detail {

NoBrokenPipe::NoBrokenPipe() {
  sigemptyset(&pipe_);
  sigaddset(&pipe_, SIGPIPE);
  sigset_t pending;
  sigpending(&pending);
  was_pending_ = sigismember(&pending, SIGPIPE) == 1;
  pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
}

NoBrokenPipe::~NoBrokenPipe() {
  const timespec at_once{};
  if (!was_pending_)
    while (sigtimedwait(&pipe_, nullptr, &at_once) == SIGPIPE) {
    }
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

}  // namespace lab::detail
