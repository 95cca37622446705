#include "lab/train/on_device.h"

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/types.h>

#include "lab/train/tensor_buffer.h"

namespace lab {
namespace {

c10::Stream compute_stream_of(at::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
}

// torch keeps such memory for the next batch, and gives it out once the copies from it are done.
std::shared_ptr<std::byte> page_locked(size_t bytes) {
  const at::Tensor memory = torch::empty({static_cast<int64_t>(std::max<size_t>(bytes, 1))},
                                         at::TensorOptions(torch::kUInt8).pinned_memory(true));
  return {static_cast<std::byte*>(memory.mutable_data_ptr()), [memory](std::byte*) {}};
}

// Tensors over the batch's memory.
Batch to_batch(HostBatch&& host) {
  Batch batch;
  batch.ids = std::move(host.ids);
  for (auto& part : host.parts) {
    void* data = part.bytes.get();
    auto keep = [owner = std::move(part.bytes)](void*) {};
    batch.parts.add(std::move(part.name),
                    torch::from_blob(data, part.shape, std::move(keep), scalar_type(part.type)));
  }
  return batch;
}

}  // namespace

at::Device torch_device(const Device& device) { return at::Device(device.tensors); }

Upload::Upload(const Device& device) : device_(torch_device(device)) {
  if (!device_.is_cpu())
    stream_ = c10::impl::VirtualGuardImpl(device_.type()).getStreamFromGlobalPool(device_, false);
}

ReaderOptions Upload::from(ReaderOptions options) const {
  if (stream_) options.memory = page_locked;
  return options;
}

Batch Upload::operator()(HostBatch&& host) const {
  Batch batch = to_batch(std::move(host));
  if (!stream_) return batch;
  Batch there{{}, std::move(batch.ids)};
  {
    const c10::StreamGuard on_own(*stream_);
    for (const auto& [name, tensor] : batch.parts.entries())
      there.parts.add(name, tensor.to(device_, /*non_blocking=*/true));
  }
  const c10::Stream compute = compute_stream_of(device_);
  c10::Event copied(device_.type());
  copied.record(*stream_);
  copied.block(compute);
  for (const auto& [name, tensor] : there.parts.entries()) tensor.record_stream(compute);
  return there;
}

Arriving::Arriving(const at::Tensor& numbers) : numbers_(numbers) {
  if (numbers.is_cpu()) return;
  numbers_ = host_memory_like(numbers);
  numbers_.copy_(numbers, /*non_blocking=*/true);
  event_.emplace(numbers.device().type());
  event_->record(compute_stream_of(numbers.device()));
}

const double* Arriving::wait() {
  if (event_) event_->synchronize();
  return numbers_.const_data_ptr<double>();
}

at::Tensor host_memory_like(const at::Tensor& tensor) {
  const auto options = at::TensorOptions(tensor.scalar_type());
  return torch::empty(tensor.sizes(), tensor.is_cpu() ? options : options.pinned_memory(true));
}

int64_t most_memory(at::Device device) {
  auto* allocator =
      device.is_cpu() ? nullptr : dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(device.type()));
  if (!allocator || !allocator->initialized()) return 0;
  return allocator->getDeviceStats(device.index()).allocated_bytes[0].peak;  // of all kinds together
}

void await(at::Device device) {
  if (!device.is_cpu()) c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
}

}  // namespace lab
