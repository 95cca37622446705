// Streams and events: which work is ordered behind which.

#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <vector>

#include "torch_stand_in/stand_in.h"

namespace torch_stand_in {
namespace {

using c10::Device;
using c10::DeviceIndex;
using c10::Stream;

constexpr int streams_of_device = 32;  // the first is the default one

struct Later {
  Moment moment;
  std::function<void()> work;
};

struct Streams {
  std::mutex mutex;
  std::array<uint64_t, devices* streams_of_device> events = {};  // recorded, per stream
  std::array<Seen, devices * streams_of_device> seen;
  Seen host;                 // what the host has waited for is before all that it asks for next
  std::vector<Later> later;  // what is done when the host has waited
};

Streams& streams() {
  static Streams& all = *new Streams;
  return all;
}

// Per thread.
thread_local DeviceIndex current_device = 0;
thread_local std::array<c10::StreamId, devices> current_streams = {};

void merge(Seen& into, const Seen& other) {
  for (const auto& [stream, events] : other) into[stream] = std::max(into[stream], events);
}

bool is_in(const Seen& seen, const Moment& moment) {
  const auto found = seen.find(moment.stream);
  return found != seen.end() && found->second > moment.events;
}

// What an event stands for that is recorded now.
Seen recorded(int stream) {
  const std::lock_guard lock(streams().mutex);
  const auto place = static_cast<size_t>(stream);
  Seen seen = streams().seen[place];
  seen[stream] = ++streams().events[place];
  return seen;
}

void host_waits_for(const Seen& seen) {
  std::vector<Later> due;
  {
    const std::lock_guard lock(streams().mutex);
    Streams& all = streams();
    merge(all.host, seen);
    const auto first = std::stable_partition(all.later.begin(), all.later.end(), [&](const Later& later) {
      return !is_in(all.host, later.moment);
    });
    std::move(first, all.later.end(), std::back_inserter(due));
    all.later.erase(first, all.later.end());
  }
  for (const Later& later : due) later.work();
}

void await_device(DeviceIndex device) {
  for (int i = 0; i < streams_of_device; ++i) host_waits_for(recorded(device * streams_of_device + i));
}

DeviceIndex index_of(Device device) { return device.has_index() ? device.index() : current_device; }

class Guard final : public c10::impl::DeviceGuardImplInterface {
 public:
  c10::DeviceType type() const override { return c10::kPrivateUse1; }
  DeviceIndex deviceCount() const noexcept override { return devices; }
  Device getDevice() const override { return {type(), current_device}; }
  void setDevice(Device device) const override { exchangeDevice(device); }
  void uncheckedSetDevice(Device device) const noexcept override { current_device = index_of(device); }
  Device exchangeDevice(Device device) const override {
    if (index_of(device) < 0 || index_of(device) >= devices) violation("there is no such device");
    return {type(), std::exchange(current_device, index_of(device))};
  }

  Stream getStream(Device device) const override {
    return stream(index_of(device), current_streams[static_cast<size_t>(index_of(device))]);
  }
  Stream getDefaultStream(Device device) const override { return stream(index_of(device), 0); }
  Stream getStreamFromGlobalPool(Device device, bool) const override {
    static std::atomic<int> next = 0;
    return stream(index_of(device), 1 + next++ % (streams_of_device - 1));
  }
  Stream getNewStream(Device device, int) const override { return getStreamFromGlobalPool(device, false); }
  Stream exchangeStream(Stream to) const override {
    auto& current = current_streams[static_cast<size_t>(to.device_index())];
    return stream(to.device_index(), std::exchange(current, to.id()));
  }
  bool queryStream(const Stream&) const override { return true; }
  void synchronizeStream(const Stream& stream) const override {
    counted(Wait::synchronize, "a stream");
    host_waits_for(recorded(number_of(stream)));
  }
  void synchronizeDevice(DeviceIndex device) const override {
    counted(Wait::synchronize, "the device");
    await_device(device);
  }
  void recordDataPtrOnStream(const c10::DataPtr& data, const Stream& stream) const override {
    record_stream(data.get(), stream);
  }

  void record(void** event, const Stream& stream, DeviceIndex, c10::EventFlag) const override {
    if (!*event) *event = new Seen;
    *static_cast<Seen*>(*event) = recorded(number_of(stream));
  }
  void block(void* event, const Stream& stream) const override {
    if (!event) return;
    const std::lock_guard lock(streams().mutex);
    merge(streams().seen[static_cast<size_t>(number_of(stream))], *static_cast<Seen*>(event));
  }
  bool queryEvent(void*) const override { return true; }
  void synchronizeEvent(void* event) const override {
    counted(Wait::event, "an event");
    if (event) host_waits_for(*static_cast<Seen*>(event));
  }
  void destroyEvent(void* event, DeviceIndex) const noexcept override { delete static_cast<Seen*>(event); }

 private:
  Stream stream(DeviceIndex device, c10::StreamId id) const {
    return Stream(Stream::UNSAFE, Device(type(), device), id);
  }
};

const c10::impl::DeviceGuardImplRegistrar registrar(c10::kPrivateUse1, new Guard);

}  // namespace

int number_of(const Stream& stream) {
  return stream.device_index() * streams_of_device + static_cast<int>(stream.id());
}
Device device_of(int stream) {
  return {c10::kPrivateUse1, static_cast<DeviceIndex>(stream / streams_of_device)};
}
Stream current_stream(Device device) { return Guard().getStream(device); }

Moment now(Device device) {
  const int stream = number_of(current_stream(device));
  const std::lock_guard lock(streams().mutex);
  return {stream, streams().events[static_cast<size_t>(stream)]};
}

bool is_ordered(const Moment& earlier, int later_stream) {
  const std::lock_guard lock(streams().mutex);
  return earlier.stream == later_stream || is_in(streams().host, earlier) ||
         is_in(streams().seen[static_cast<size_t>(later_stream)], earlier);
}

void when_awaited(Device device, std::function<void()> work) {
  const Moment moment = now(device);
  const std::lock_guard lock(streams().mutex);
  streams().later.push_back({moment, std::move(work)});
}

void await_current_stream(Device device) { host_waits_for(recorded(number_of(current_stream(device)))); }

}  // namespace torch_stand_in
