// The operators: each is the CPU's own, on tensors that see the device's memory where the host may reach it.

#include <ATen/EmptyTensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/ones_like.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/DeviceGuard.h>
#include <torch/library.h>

#include <set>
#include <string>

#include "torch_stand_in/stand_in.h"

namespace torch_stand_in {
namespace {

using at::Tensor;
using c10::DispatchKey;
using Sizes = c10::IntArrayRef;
template <class T>
using Maybe = std::optional<T>;

// What the host is told by these, or needs to know to make their results.
const std::set<std::string> waited_for = {"aten::equal",
                                          "aten::nonzero",
                                          "aten::nonzero.out",
                                          "aten::masked_select",
                                          "aten::_unique2",
                                          "aten::unique_dim",
                                          "aten::bincount",
                                          "aten::unique_consecutive",
                                          "aten::repeat_interleave.Tensor"};
// What the CPU has no kernel of its own for, but where torch would look at the device.
const std::set<std::string> also_the_cpus = {"aten::convolution", "aten::convolution_backward"};

bool is_here(const Tensor& tensor) { return tensor.defined() && tensor.is_privateuseone(); }

Tensor seen_as(const c10::Storage& storage, DispatchKey key, const Tensor& like) {
  Tensor out =
      at::detail::make_tensor<c10::TensorImpl>(c10::Storage(storage), c10::DispatchKeySet(key), like.dtype());
  out.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  return out;
}

// The same memory as a CPU's tensor.
Tensor on_cpu(const Tensor& tensor) {
  void* address = host_address(tensor.storage().data());
  return seen_as(c10::Storage(c10::Storage::use_byte_size_t(), tensor.storage().nbytes(),
                              c10::DataPtr(address, c10::kCPU), c10::GetCPUAllocator(), /*resizable=*/true),
                 DispatchKey::CPU, tensor);
}

Tensor empty_here(Sizes sizes, Sizes strides, at::ScalarType type, c10::Device device) {
  const c10::DeviceGuard guard(device);
  return at::detail::empty_strided_generic(sizes, strides, device_allocator(),
                                           c10::DispatchKeySet(DispatchKey::PrivateUse1), type);
}

Tensor brought_here(const Tensor& from, c10::Device device) {
  const Tensor dense = from.is_non_overlapping_and_dense() ? from : from.contiguous();
  const Tensor out = empty_here(dense.sizes(), dense.strides(), dense.scalar_type(), device);
  use(out.storage().data(), true);
  on_cpu(out).copy_(dense);
  return out;
}

// One call of an operator: the tensors that it is lent, and what they are lent for.
class Call {
 public:
  explicit Call(const c10::OperatorHandle& op) : schema_(op.schema()) {}

  c10::IValue lent(const c10::IValue& value, size_t argument) {
    const auto& about = schema_.arguments()[argument];
    const bool writes = about.alias_info() && about.alias_info()->isWrite();
    if (value.isTensor()) return lend(value.toTensor(), writes);
    if (value.isTensorList()) return lend_all(value.toTensorVector(), writes);
    if (value.isOptionalTensorList()) return lend_some(value.toOptionalTensorVector());
    if (!value.isDevice()) return value;
    device_ = value.toDevice();
    return c10::Device(c10::kCPU);
  }

  // Host tensors are refused as a real device does it, but for numbers.
  void check() const {
    for (const Tensor& tensor : host_)
      TORCH_CHECK(tensor.dim() == 0 && !has_list_, "Expected all tensors to be on the same device, but ",
                  schema_.name(), " was given one on ", device(), " and one of the host's");
  }

  c10::IValue returned(const c10::IValue& value) {
    if (value.isTensor()) return own_for(value.toTensor());
    if (!value.isTensorList()) return value;
    c10::List<Tensor> list;
    for (const Tensor& tensor : value.toTensorVector()) list.push_back(own_for(tensor));
    return list;
  }

  // What the operator resized has memory of the host's now.
  void take_back() const {
    for (const auto& [own, lent] : loans_) {
      const bool moved = lent.storage().data() != host_address(own.storage().data());
      if (!moved && lent.sizes() == own.sizes() && lent.strides() == own.strides()) continue;
      const Tensor now =
          moved ? brought_here(lent, own.device()) : seen_as(own.storage(), DispatchKey::PrivateUse1, lent);
      own.unsafeGetTensorImpl()->set_storage_keep_dtype(now.storage());
      own.unsafeGetTensorImpl()->set_sizes_and_strides(now.sizes(), now.strides(), now.storage_offset());
    }
  }

  c10::Device device() const {
    return device_ ? *device_ : current_stream(c10::Device(c10::kPrivateUse1)).device();
  }

 private:
  Tensor lend(const Tensor& tensor, bool writes) {
    if (!tensor.defined()) return tensor;
    if (!is_here(tensor)) return host_.emplace_back(tensor);
    TORCH_CHECK(!device_ || *device_ == tensor.device(),
                "Expected all tensors to be on the same device, but ", schema_.name(), " was given one on ",
                *device_, " and one on ", tensor.device());
    device_ = tensor.device();
    use(tensor.storage().data(), writes);
    for (const auto& [own, lent] : loans_)
      if (own.is_same(tensor)) return lent;
    return loans_.emplace_back(tensor, on_cpu(tensor)).second;
  }
  c10::List<Tensor> lend_all(const std::vector<Tensor>& tensors, bool writes) {
    c10::List<Tensor> list;
    has_list_ = true;
    for (const Tensor& tensor : tensors) list.push_back(lend(tensor, writes));
    return list;
  }
  // Indices: the host's are brought here first, and the places of a mask are counted.
  c10::List<Maybe<Tensor>> lend_some(const std::vector<Maybe<Tensor>>& tensors) {
    c10::List<Maybe<Tensor>> list;
    for (const auto& tensor : tensors) {
      if (!tensor || !tensor->defined()) {
        list.push_back(tensor);
        continue;
      }
      if (!is_here(*tensor)) counted(Wait::to_device, schema_.name());
      if (tensor->scalar_type() == at::kBool || tensor->scalar_type() == at::kByte)
        counted(Wait::result, schema_.name());
      list.push_back(is_here(*tensor) ? lend(*tensor, false) : *tensor);
    }
    return list;
  }

  Tensor own_for(const Tensor& tensor) const {
    if (!tensor.defined()) return tensor;
    for (const auto& [own, lent] : loans_)
      if (tensor.is_same(lent)) return own;
    for (const auto& [own, lent] : loans_)
      if (tensor.storage().is_alias_of(lent.storage()))
        return seen_as(own.storage(), DispatchKey::PrivateUse1, tensor);
    return brought_here(tensor, device());
  }

  const c10::FunctionSchema& schema_;
  std::vector<std::pair<Tensor, Tensor>> loans_;  // own, lent
  std::vector<Tensor> host_;
  bool has_list_ = false;
  Maybe<c10::Device> device_;
};

void as_on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& arguments = op.schema().arguments();
  const size_t first = stack->size() - arguments.size();
  Call call(op);
  for (size_t i = 0; i < arguments.size(); ++i) (*stack)[first + i] = call.lent((*stack)[first + i], i);
  call.check();
  const std::string name = c10::toString(op.operator_name());
  if (waited_for.contains(name)) {
    counted(Wait::result, name);
    await_current_stream(call.device());
  }
  for (size_t i = 0; i < arguments.size(); ++i)
    if (arguments[i].name() == "generator" && (*stack)[first + i].isNone())
      (*stack)[first + i] = default_generator(call.device().index());
  op.redispatchBoxed(c10::DispatchKeySet(DispatchKey::CPU), stack);
  call.take_back();
  for (size_t i = first; i < stack->size(); ++i) (*stack)[i] = call.returned((*stack)[i]);
}

Tensor empty(Sizes sizes, Maybe<at::ScalarType> type, Maybe<at::Layout>, Maybe<c10::Device> device,
             Maybe<bool>, Maybe<at::MemoryFormat> format) {
  const c10::OptionalDeviceGuard guard(device);
  return at::detail::empty_generic(sizes, device_allocator(), c10::DispatchKeySet(DispatchKey::PrivateUse1),
                                   at::dtype_or_default(type), format);
}

Tensor empty_strided(Sizes sizes, Sizes strides, Maybe<at::ScalarType> type, Maybe<at::Layout>,
                     Maybe<c10::Device> device, Maybe<bool>) {
  return empty_here(sizes, strides, at::dtype_or_default(type),
                    device.value_or(c10::Device(c10::kPrivateUse1)));
}

// Whether the copy can be left to the device; else torch goes through other memory of the host, or waits.
bool is_asynchronous(const Tensor& host, const Tensor& here, bool non_blocking) {
  return non_blocking && is_pinned(host.storage().data()) && host.scalar_type() == here.scalar_type() &&
         host.sizes() == here.sizes() && (host.is_contiguous() || host.strides() == here.strides());
}

std::string text_of(const Tensor& from, const Tensor& to) {
  return c10::str("copy_ of ", from.scalar_type(), from.sizes(), " to ", to.scalar_type(), to.sizes());
}

// The host sees the numbers once it has waited for them, and NaNs until then.
void copy_later(const Tensor& from, const Tensor& to, c10::Device device) {
  if (to.is_non_overlapping_and_dense()) std::memset(to.mutable_data_ptr(), 0xff, to.nbytes());
  when_awaited(device, [to, copied = from.clone()] { to.copy_(copied); });
}

Tensor copy_from(const Tensor& from, const Tensor& to, bool non_blocking) {
  for (const Tensor& tensor : {from, to})
    if (is_here(tensor)) use(tensor.storage().data(), tensor.is_same(to));
  if (is_here(from) && is_here(to)) {
    on_cpu(to).copy_(on_cpu(from));
    return to;
  }
  const Tensor &host = is_here(from) ? to : from, &here = is_here(from) ? from : to;
  const bool asynchronous = is_asynchronous(host, here, non_blocking);
  if (asynchronous && !is_kept_while_copied(host))
    violation("an asynchronous copy of page-locked memory that torch cannot find: it may be freed too early");
  if (!asynchronous) {
    counted(is_here(from) ? Wait::to_host : Wait::to_device, text_of(from, to));
    await_current_stream(here.device());
  }
  if (is_here(to))
    on_cpu(to).copy_(from);
  else if (asynchronous)
    copy_later(on_cpu(from), to, here.device());
  else
    to.copy_(on_cpu(from));
  return to;
}

at::Scalar local_scalar(const Tensor& tensor) {
  counted(Wait::item, "item");
  use(tensor.storage().data(), false);
  await_current_stream(tensor.device());
  return on_cpu(tensor).item();
}

void record_stream_of(Tensor& tensor, c10::Stream stream) { record_stream(tensor.storage().data(), stream); }

Tensor& set_storage(Tensor& tensor, c10::Storage storage, int64_t offset, Sizes sizes, Sizes strides) {
  tensor.unsafeGetTensorImpl()->set_storage_keep_dtype(std::move(storage));
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(sizes, strides, offset);
  return tensor;
}
Tensor& set_tensor(Tensor& tensor, const Tensor& source) {
  return set_storage(tensor, source.storage(), source.storage_offset(), source.sizes(), source.strides());
}

// So that a module can be moved here.
bool can_become(const Tensor&, const Tensor& other) { return other.layout() == at::kStrided; }

// As on CPUs; torch's own for devices rounds otherwise. The second result is what it scales by.
std::tuple<Tensor, Tensor> dropout(const Tensor& input, double probability, Maybe<bool> train) {
  if (!train.value_or(true)) return {input.clone(), at::ones_like(input)};
  const Tensor noise = at::empty_like(input).bernoulli_(1 - probability).div_(1 - probability);
  return {input.mul(noise), noise};
}
Tensor dropout_backward(const Tensor& gradient, const Tensor& noise, double) { return gradient.mul(noise); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("_copy_from", copy_from);
  m.impl("_local_scalar_dense", local_scalar);
  m.impl("record_stream", record_stream_of);
  m.impl("set_.source_Storage_storage_offset", set_storage);
  m.impl("set_.source_Tensor", set_tensor);
  m.impl("_has_compatible_shallow_copy_type", can_become);
  m.impl("native_dropout", dropout);
  m.impl("native_dropout_backward", dropout_backward);
  auto& dispatcher = c10::Dispatcher::singleton();
  for (const auto& name : dispatcher.getAllOpNames()) {
    const auto op = dispatcher.findOp(name);
    if (!op || !op->hasSchema() || name.getNamespace() != "aten") continue;
    const bool has_own =
        op->hasKernelForDispatchKey(DispatchKey::CPU) || also_the_cpus.contains(c10::toString(name));
    if (has_own && !op->hasKernelForDispatchKey(DispatchKey::PrivateUse1))
      m.impl(c10::toString(name).c_str(), torch::CppFunction::makeFromBoxedFunction<&as_on_cpu>());
  }
}

}  // namespace
}  // namespace torch_stand_in
