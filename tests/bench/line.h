#pragma once
// The line of one rank to the script that plays a benchmark's sides against each other (interleaved.py).

#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>

#include "lab/core/error.h"
#include "lab/core/text.h"

namespace bench {

// Each rank has one. It is told how much to do, does it, and says what came of it; while it waits it uses no
// processor. Throws IoError when there is no script. One thread.
class Line {
 public:
  // LAB_BENCH_SOCKET is the path of the script's local socket.
  Line() : socket_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const char* path = std::getenv("LAB_BENCH_SOCKET");
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::string(path ? path : "").copy(address.sun_path, sizeof address.sun_path - 1);
    if (connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
      throw lab::IoError("no script at LAB_BENCH_SOCKET = ", lab::quoted(path ? path : ""), ": ",
                         lab::system_error_text(errno), "; this program is started by tests/bench/run.py");
    say(lab::text(getpid()));
  }
  ~Line() { close(socket_); }
  Line(const Line&) = delete;
  Line& operator=(const Line&) = delete;

  // How much to do next, in the units of the benchmark; 0 when the script wants no more, or is gone.
  int64_t told() const {
    std::string words;
    for (char c = 0; read(socket_, &c, 1) == 1 && c != '\n';) words += c;
    return words.empty() ? 0 : std::atoll(words.c_str());
  }

  // "seconds=0.5 loss=2.3": what came of it.
  void say(const std::string& words) const {
    const std::string line = words + "\n";
    if (send(socket_, line.data(), line.size(), MSG_NOSIGNAL) < 0)
      throw lab::IoError("the benchmark's script is gone: ", lab::system_error_text(errno));
  }

 private:
  int socket_;
};

// The rounds of a rank that trains: as many steps or epochs as the script asks for, timed together, until it
// asks for no more. One thread.
class Rounds {
 public:
  // Waits to be told of the next round, whose time begins then. Where there is none the run is ended as by a
  // user.
  void wait() {
    asked_ = line_.told();
    if (asked_ == 0) raise(SIGTERM);
    done_ = 0;
    start_ = Clock::now();
  }
  // One more is done. The round's seconds, if it was its last.
  std::optional<double> advance() {
    if (asked_ == 0 || ++done_ < asked_) return std::nullopt;
    return std::chrono::duration<double>(Clock::now() - start_).count();
  }
  int64_t done() const { return done_; }  // of this round
  void say(const std::string& words) const { line_.say(words); }

 private:
  using Clock = std::chrono::steady_clock;
  Line line_;
  int64_t asked_ = 0, done_ = 0;
  Clock::time_point start_;
};

}  // namespace bench
