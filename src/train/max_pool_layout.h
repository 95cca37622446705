#pragma once
// A slow path of torch's on CPUs, avoided.

namespace lab::detail {

// The gradient of MaxPool2d's output is brought into the memory format of its input before torch looks at it,
// once and for the whole process. Torch goes by the gradient's own format: behind a Flatten it is not
// channels_last, and then zeros, indices and the gradient of the input, which is several times as large, are
// copied from one format into the other. Values are the same. One thread.
void keep_layout_in_max_pool_backward();

}  // namespace lab::detail
