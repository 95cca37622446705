#pragma once
// Tensors as the buffers and element types of the layers below, and back.

#include <ATen/core/Tensor.h>

#include "lab/comm/communicator.h"
#include "lab/core/dtype.h"

namespace lab {

at::ScalarType scalar_type(DType type);
DType dtype_of(at::ScalarType type);         // throws Bug for types that nothing of ours uses
Buffer as_buffer(const at::Tensor& tensor);  // contiguous; shares the memory

}  // namespace lab
