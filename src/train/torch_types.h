#pragma once
// How PyTorch calls the element types of tensors.

#include <optional>
#include <string>
#include <string_view>

#include "lab/core/dtype.h"

namespace lab::detail {

// "torch.float32"
std::string torch_name(DType type);
std::optional<DType> type_from_torch_name(std::string_view name);

// "FloatStorage"; "" for the types that came after such classes: they lie in an UntypedStorage.
std::string_view storage_class(DType type);
std::optional<DType> type_of_storage_class(std::string_view name);

}  // namespace lab::detail
