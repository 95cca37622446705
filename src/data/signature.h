#pragma once
// What kind of file this is, by its first bytes, before the HDF5 library sees it.

#include "data/input_file.h"

namespace lab::detail {

// Throws DataError, which says what the file is instead and what to do, when it is not HDF5 or was cut short.
void check_hdf5_signature(const InputFile& file);

}  // namespace lab::detail
