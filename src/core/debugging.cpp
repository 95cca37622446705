#include "lab/core/debugging.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <memory>
#include <mutex>
#include <thread>
#include <typeinfo>

#include "core/frames.h"
#include "lab/core/process.h"
#include "lab/core/signals.h"

namespace lab {
namespace {

struct Throw {
  const std::type_info* type = nullptr;
  std::array<void*, 48> stack{};
  int depth = 0;
};

constexpr size_t most_throws = 3;
std::atomic<bool> keeps = false;

struct Throws {
  std::mutex mutex;
  std::deque<Throw> newest;
};
Throws& throws() {
  static Throws& all = *new Throws;  // stays for threads that outlive main()
  return all;
}

thread_local bool keeping = false;  // what fails in keeping a throw is not kept in turn

[[gnu::noinline]] void keep(const std::type_info* type) {
  if (keeping) return;
  keeping = true;
  Throw one{.type = type};
  one.depth = backtrace(one.stack.data(), static_cast<int>(one.stack.size()));
  const std::lock_guard lock(throws().mutex);
  throws().newest.push_back(one);
  if (throws().newest.size() > most_throws) throws().newest.pop_front();
  keeping = false;
}

// Of the process that traces this one; 0: none.
int tracer() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (word == "TracerPid:") {
      int pid = 0;
      status >> pid;
      return pid;
    }
  return 0;
}

}  // namespace

std::string detail::demangled(const char* name) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> words(
      abi::__cxa_demangle(name, nullptr, nullptr, &status), &std::free);
  std::string out = words ? words.get() : name;
  const std::string string =
      "std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >";
  for (size_t at = out.find(string); at != std::string::npos; at = out.find(string, at))
    out.replace(at, string.size(), "std::string");
  return out;
}

void keep_throws() {
  void* here = nullptr;
  backtrace(&here, 1);  // loads what it needs
  const std::lock_guard lock(throws().mutex);
  throws().newest.clear();
  keeps = true;
}

std::string recent_throws() {
  std::deque<Throw> newest;
  {
    const std::lock_guard lock(throws().mutex);
    newest = throws().newest;
  }
  std::string out;
  for (const Throw& one : newest) {
    constexpr int own = 2;  // keep(), and the function that calls it
    const auto depth = static_cast<size_t>(one.depth);
    out += text(detail::demangled(one.type->name()), " thrown by\n",
                detail::frames_text(std::span(one.stack).first(depth).subspan(std::min<size_t>(depth, own))));
  }
  return out;
}

void wait_for_debugger(const Log& log) {
  prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);  // where the kernel lets parents only
  log.warn("waiting for a debugger, on ", host_name(), ": gdb -p ", getpid(), "   (Ctrl-C or kill ", getpid(),
           " ends the wait)");
  while (tracer() == 0)
    if (stop_signal() != 0)
      return;
    else
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
  raise(SIGTRAP);
}

}  // namespace lab

// Stands before the C++ library's own, which it calls: the one place that all throws come through. The
// compiler has a declaration of its own in mind, so it is named here as the linker names it.
extern "C" [[gnu::visibility("default")]] void lab_cxa_throw(void* thrown, std::type_info* type,
                                                             void (*destroy)(void*)) __asm__("__cxa_throw");
void lab_cxa_throw(void* thrown, std::type_info* type, void (*destroy)(void*)) {
  using Next = void (*)(void*, std::type_info*, void (*)(void*));
  static const auto next = reinterpret_cast<Next>(dlsym(RTLD_NEXT, "__cxa_throw"));
  if (lab::keeps.load(std::memory_order_relaxed)) lab::keep(type);
  next(thrown, type, destroy);
  std::abort();  // it does not return
}
