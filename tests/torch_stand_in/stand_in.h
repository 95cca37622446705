#pragma once
// A device of torch's own kind ("privateuseone:N") without a device. Its operators are the CPU's, on memory
// that the host may not touch, and what the host waits for is counted.
//
// Work is done at once, by the thread that asks for it. What a real device does later is checked all the
// same: a use of memory on a stream that did not wait for the stream that wrote it ends the process, as does
// memory given back too early, and an asynchronous copy to the host arrives when the host has waited for it.
//
// TORCH_STAND_IN_LOG = FILE asks for the counts at the end, a line for each kind, in FILE.R of each rank R;
// TORCH_STAND_IN_TRACE = 1 for a line on standard error whenever the host waits.

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <c10/core/Stream.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>

namespace torch_stand_in {

constexpr c10::DeviceIndex devices = 8;

// What the host waits for.
enum class Wait { item, to_device, to_host, synchronize, result, event };
int64_t count(Wait kind);
void counted(Wait kind, const std::string& what);

// A rule that the caller has broken: says which, and ends the process by SIGABRT.
[[noreturn]] void violation(const std::string& rule);

// Where the host may reach what a tensor sees at this address; the same place for memory that is not this
// device's.
void* host_address(const void* device_address);
bool is_pinned(const void* address);
// Whether torch finds the memory that this storage's bytes are of, to keep it until copies are done.
bool is_kept_while_copied(const at::Tensor& pinned);
c10::Allocator* device_allocator();
c10::Allocator* pinned_allocator();
c10::Device device_at(const void* address);  // foreign memory: of the device that gave memory last

// A place in a stream's work, and how far into others' work one has waited.
struct Moment {
  int stream = 0;
  uint64_t events = 0;  // recorded before it
};
using Seen = std::map<int, uint64_t>;

c10::Stream current_stream(c10::Device device);
Moment now(c10::Device device);
bool is_ordered(const Moment& earlier, int later_stream);
int number_of(const c10::Stream& stream);  // of all devices' streams
c10::Device device_of(int stream);

// Checks a use by the current stream of the memory at this address, and remembers it.
void use(const void* device_address, bool writes);
void record_stream(const void* device_address, const c10::Stream& stream);

// Does this when the host has waited for the current stream.
void when_awaited(c10::Device device, std::function<void()> work);
void await_current_stream(c10::Device device);

const at::Generator& default_generator(c10::DeviceIndex device);

}  // namespace torch_stand_in

extern "C" void* torch_stand_in_reached(const void* seen);
