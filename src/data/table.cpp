#include "lab/data/table.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <type_traits>

#include "data/elements.h"
#include "lab/core/error.h"
#include "lab/core/process.h"
#include "lab/data/hdf5_writer.h"

namespace lab {
namespace {

size_t width_of(const TableColumn& column) {
  size_t width = 1;
  for (const int64_t n : column.shape) width *= static_cast<size_t>(n);
  return width;
}

// In quotes where it would not be read back as it is without.
std::string csv_field(const std::string& value) {
  if (value.find_first_of(",\"\r\n") == std::string::npos) return value;
  std::string out = "\"";
  for (const char c : value) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

std::string number_text(double value) {
  const bool whole = std::floor(value) == value && std::abs(value) < 1e15;
  return whole ? std::to_string(static_cast<int64_t>(value)) : shortest(value);
}

std::string element_text(const TableColumn& column, size_t index) {
  return detail::visit_type(column.type, [&](auto like) {
    using T = decltype(like);
    const T value = reinterpret_cast<const T*>(column.bytes.data())[index];
    if constexpr (std::is_integral_v<T>)
      return std::to_string(value);
    else
      return number_text(static_cast<double>(value));
  });
}

std::vector<std::string> header_of(const TableColumn& column) {
  if (column.is_text || column.shape.empty()) return {column.name};
  std::vector<std::string> names;
  for (size_t i = 0; i < width_of(column); ++i) names.push_back(text(column.name, "_", i));
  return names;
}

std::string csv_of(int64_t rows, const std::vector<TableColumn>& columns) {
  std::string out = "index";
  for (const TableColumn& column : columns)
    for (const std::string& name : header_of(column)) out += "," + csv_field(name);
  out += "\n";
  for (size_t row = 0; row < static_cast<size_t>(rows); ++row) {
    out += std::to_string(row);
    for (const TableColumn& column : columns) {
      if (column.is_text) out += "," + csv_field(column.texts[row]);
      const size_t width = column.is_text ? 0 : width_of(column);
      for (size_t i = 0; i < width; ++i) out += "," + element_text(column, row * width + i);
    }
    out += "\n";
  }
  return out;
}

// Texts of one length, which is that of the longest.
std::vector<std::byte> padded(const std::vector<std::string>& texts, size_t length) {
  std::vector<std::byte> bytes(texts.size() * length);
  for (size_t i = 0; i < texts.size(); ++i)
    std::ranges::copy(std::as_bytes(std::span(texts[i])),
                      bytes.begin() + static_cast<std::ptrdiff_t>(i * length));
  return bytes;
}

// The numbers of a type that the file can have.
std::vector<std::byte> as_f32(const TableColumn& column) {
  std::vector<std::byte> bytes;
  detail::visit_type(column.type, [&](auto like) {
    using T = decltype(like);
    for (size_t i = 0; i < column.bytes.size() / sizeof(T); ++i) {
      const auto value =
          static_cast<float>(static_cast<double>(reinterpret_cast<const T*>(column.bytes.data())[i]));
      const auto* first = reinterpret_cast<const std::byte*>(&value);
      bytes.insert(bytes.end(), first, first + sizeof value);
    }
  });
  return bytes;
}

void write_hdf5_table(const std::string& path, int64_t rows, const std::vector<TableColumn>& columns) {
  std::vector<int64_t> index(static_cast<size_t>(rows));
  for (size_t i = 0; i < index.size(); ++i) index[i] = static_cast<int64_t>(i);
  std::vector<std::vector<std::byte>> made(columns.size());  // what is not as the file has it
  std::vector<NewField> fields = {{"index", DType::i64, {rows}, std::as_bytes(std::span(index))}};
  for (size_t c = 0; c < columns.size(); ++c) {
    const TableColumn& column = columns[c];
    NewField field{column.name, column.type, {rows}, column.bytes};
    if (column.is_text) {
      size_t longest = 1;
      for (const std::string& text : column.texts) longest = std::max(longest, text.size());
      made[c] = padded(column.texts, longest);
      field.text_bytes = static_cast<int64_t>(longest);
    } else {
      field.shape.insert(field.shape.end(), column.shape.begin(), column.shape.end());
      if (column.type == DType::boolean) field.type = DType::u8;
      if (column.type == DType::f16 || column.type == DType::bf16) {
        made[c] = as_f32(column);
        field.type = DType::f32;
      }
    }
    if (!made[c].empty()) field.bytes = made[c];
    fields.push_back(std::move(field));
  }
  write_hdf5(path, fields);
}

}  // namespace

TableFormat table_format_of(const std::string& path) {
  if (path.ends_with(".csv")) return TableFormat::csv;
  if (path.ends_with(".h5") || path.ends_with(".hdf5")) return TableFormat::hdf5;
  throw UsageError("predictions can't be written to ", quoted(path),
                   ": its ending says in what form; let it end with .csv, .h5 or .hdf5");
}

void require_column_names(const std::vector<std::string>& names) {
  std::set<std::string> seen = {"index"};
  for (const std::string& name : names) {
    if (name.empty() || name == "." || name.find('/') != std::string::npos)
      throw ConfigError(quoted(name),
                        " can't be the name of a column of predictions: no empty one, no \".\" ",
                        "and none with a '/'; name it otherwise");
    if (!seen.insert(name).second)
      throw ConfigError("two columns of predictions would have the name ", quoted(name),
                        name == "index" ? ", which is that of the first one" : "", "; name one otherwise");
  }
}

void write_table(const std::string& path, int64_t rows, const std::vector<TableColumn>& columns) {
  if (table_format_of(path) == TableFormat::hdf5) return write_hdf5_table(path, rows, columns);
  write_file_atomically(path, csv_of(rows, columns));
}

}  // namespace lab
