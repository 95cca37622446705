#pragma once
// A file that appears under its name whole, or not at all.

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace lab::detail {

// The file under its temporary name, PATH.partial; gone again unless it was put in its place. Every function
// throws IoError.
class PartialFile {
 public:
  using Bytes = std::span<const std::byte>;

  explicit PartialFile(const std::string& path);
  ~PartialFile();
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;

  void write(Bytes bytes);
  void sync();
  // Compares what can be read back at `offset` with what was to be there.
  void compare(size_t offset, Bytes expected, const std::string& what);
  // Gives it its name, and brings that to the disk.
  void put_in_place();

 private:
  [[noreturn]] void fail(const char* what);

  std::string path_, name_;
  int fd_ = -1;
  bool placed_ = false;
  std::vector<std::byte> buffer_;
};

}  // namespace lab::detail
