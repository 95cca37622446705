#include "nccl_stand_in/link.h"

#include <signal.h>
#include <time.h>

#include <cerrno>

namespace stand_in {

bool Link::others_live() const {
  if (board().aborted) return false;
  for (int r = 0; r < ranks_; ++r)
    if (const int pid = place(r).pid; pid > 0 && kill(pid, 0) != 0 && errno == ESRCH) return false;
  return true;
}

void Link::pause(int round) {
  const timespec time{0, round < 100 ? 20'000 : 1'000'000};
  nanosleep(&time, nullptr);
}

bool Link::meet() {
  const uint64_t turn = ++turn_;
  own().turn = turn;
  return poll([&] {
    for (int r = 0; r < ranks_; ++r)
      if (place(r).turn < turn) return false;
    return true;
  });
}

}  // namespace stand_in
