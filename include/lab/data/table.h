#pragma once
// A table with a row for each sample, as a CSV or HDF5 file.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "lab/core/dtype.h"

namespace lab {

// What a table has of each sample under one name: numbers of one shape, or a text.
struct TableColumn {
  std::string name;
  DType type = DType::f64;            // of numbers
  std::vector<int64_t> shape = {};    // of a sample's; empty: one number
  std::vector<std::byte> bytes = {};  // of all samples, row-major, in native byte order
  bool is_text = false;
  std::vector<std::string> texts = {};  // then: of all samples
};

enum class TableFormat { csv, hdf5 };
// By the ending of the path: .csv, or .h5 and .hdf5. Throws UsageError for another.
TableFormat table_format_of(const std::string& path);

// Throws ConfigError for names that are empty, there twice, or "index", and for those that an HDF5 file can't
// have: with a '/', or ".".
void require_column_names(const std::vector<std::string>& names);

// `index` from 0 on, then the columns. In CSV a header, numbers as the shortest text that reads back as the
// same double, those of a shape as NAME_0, NAME_1, ...; texts in quotes where RFC 4180 asks for it; lines end
// with '\n'. In HDF5 a dataset for each, of its type (f16 and bf16: f32; bool: u8), texts with a fixed
// length, padded with zeros. Whole or not at all, in place of a file of that name; the same table has the
// same bytes. Throws IoError.
void write_table(const std::string& path, int64_t rows, const std::vector<TableColumn>& columns);

}  // namespace lab
