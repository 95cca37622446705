#pragma once
// Sizes that follow from the layout of a field, and whether a layout can be true at all.

#include <vector>

#include "lab/data/layout.h"

namespace lab::detail {

uint64_t sample_bytes(const FieldLayout& field);            // of one sample
uint64_t chunk_bytes(const FieldLayout& field);             // of one chunk, once decoded
std::vector<int64_t> chunk_grid(const FieldLayout& field);  // chunks along each dimension
std::string shape_text(const std::vector<int64_t>& shape);  // "(6000, 28, 28)"

// Throws DataError where a field lies outside the file, or promises far more than its stored bytes can hold.
// What passes can be read without overflow and with memory in proportion to the file.
void check_layout(const FileLayout& layout);

}  // namespace lab::detail
