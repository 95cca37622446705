#pragma once
// The stand-in's streams: threads that do what is queued, later. What a real device does behind the caller's
// back, with every liberty that it has: nothing has happened before an event says so.
//
// The compute stream is the thread that owns the communicator, whose "kernels" are plain C++: what is held
// there holds that thread.

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace stand_in {

// Does work in order, on a thread of its own. The destructor waits for all of it.
class Queue {
 public:
  Queue() : thread_([this] { run(); }) {}
  ~Queue();
  void push(std::function<void()> work);

  // How many events of the compute stream what is queued next will wait for, since something was launched: a
  // launch that waits for none may read what is not made yet.
  int holds = 0;

 private:
  void run();
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> work_;
  bool closing_ = false;
  std::thread thread_;
};

// The handle of the compute stream.
Queue* compute_queue();

// Memory of the stand-in's device. A range in flight belongs to a launch: nobody else may read, write or free
// it.
bool in_device_memory(const void* memory, size_t bytes);
bool in_flight(const void* memory, size_t bytes);
void begin_flight(const void* memory, size_t bytes);
void end_flight(const void* memory, size_t bytes);

// Tensors of torch's stand-in (tests/torch_stand_in), where a program has it, lie in memory of the device
// too, and are reached at another address than the one that is seen; all else is reached where it is.
extern "C" [[gnu::weak]] void* torch_stand_in_reached(const void* seen);
inline void* reached(const void* at) {
  void* there = torch_stand_in_reached ? torch_stand_in_reached(at) : nullptr;
  return there ? there : const_cast<void*>(at);
}

// A line of this process's log: NCCL_STAND_IN_LOG = FILE asks for one in FILE.R of each rank R.
void note(const std::string& line);

// A rule that the caller has broken: says which, and ends the process by SIGABRT.
[[noreturn]] void violation(const std::string& rule);

}  // namespace stand_in
