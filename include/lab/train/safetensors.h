#pragma once
// The safetensors container: named arrays in one file that Python's `safetensors` reads and writes too.
//
// A file is 8 bytes, the length of the header (little-endian); the header, JSON: name -> dtype, shape and
// data_offsets, and "__metadata__", text -> text; then the arrays, one after the other without gaps.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "lab/core/dtype.h"

namespace lab {

// An array in somebody else's memory: row-major, little-endian. Shape {} is one element.
struct TensorView {
  std::string name;
  DType type = DType::f32;
  std::vector<int64_t> shape;
  const void* data = nullptr;
};

// Bytes of an array; nullopt where a dimension is negative or the number has no room in 63 bits.
std::optional<int64_t> byte_count(DType type, std::span<const int64_t> shape);

// The checksum that files carry: XXH3-64 as 16 hex digits.
std::string checksum(std::span<const std::byte> bytes);

// Writes the file whole or not at all: under the name PATH.partial, fsync, read back and compared with what
// is in memory, renamed, fsync of the folder. The same input gives the same bytes. The header names the
// tensors in the order given; the arrays lie with larger element types first, so that each is aligned for its
// type, and the first to 64 bytes. Adds to the metadata "lab.checksums" (JSON: name -> checksum) and
// "lab.header" (checksum of the header with zeros in this place). Throws IoError: what stood at `path` is
// then untouched and nothing is left behind. Throws Bug for tensors that no file can hold: two of one name, a
// negative dimension, text that is no UTF-8.
void write_safetensors(const std::string& path, std::span<const TensorView> tensors,
                       const std::map<std::string, std::string>& metadata = {});

// A safetensors file in memory. Its views are valid while it or a copy of it lives; in files of lab they are
// aligned for their type, in others they may lie at any address. Immutable: several threads may read.
class SafetensorsFile {
 public:
  // Reads all of it. Throws InputNotFound, IoError, and DataError for what is not a whole file of this kind.
  explicit SafetensorsFile(std::string path);

  const std::string& path() const { return path_; }
  const std::vector<std::string>& names() const { return names_; }  // in the order of the header
  const TensorView* find(const std::string& name) const;            // nullptr: there is none
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  // Compares header and arrays with the checksums that lab writes. True: all agree. False: the file carries
  // none, another program wrote it. Throws DataError naming the tensor, the expected and the actual checksum.
  bool verify() const;

 private:
  void read();
  void parse_header(int64_t data_bytes);

  std::string path_;
  std::string header_;
  std::shared_ptr<std::byte> data_;  // aligned to 64 bytes
  std::vector<std::string> names_;
  std::unordered_map<std::string, TensorView> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace lab
