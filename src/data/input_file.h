#pragma once
// A data file that is read with plain reads at known offsets.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace lab::detail {

// Owns one file descriptor; several threads may read. Throws InputNotFound, IoError, or DataError for what is
// no file.
class InputFile {
 public:
  explicit InputFile(std::string path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }  // when it was opened

  // Fills `bytes` from `offset`. Throws IoError, or DataError when the file ends before.
  void read(uint64_t offset, std::span<std::byte> bytes) const;

 private:
  std::string path_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

}  // namespace lab::detail
