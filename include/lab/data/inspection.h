#pragma once
// What a data file holds, for people: its fields with their values, a sample as a picture, and all that is
// wrong in it.

#include <string>
#include <vector>

#include "lab/data/layout.h"

namespace lab {

// Name, type, shape, storage and values of each field, at most 80 columns wide. Reads the whole file.
std::string describe(const FileLayout& layout);

// One sample of the first field of u8 images, drawn with letters, under the other fields' values of that
// sample. Throws DataError when there is no such field or sample.
std::string picture(const FileLayout& layout, int64_t sample);

// Everything that is wrong, one line each: chunks that do not decode, fields of unequal length, NaN and
// infinity. Empty: every sample of every field was read and is sound.
std::vector<std::string> problems_in(const FileLayout& layout);

}  // namespace lab
