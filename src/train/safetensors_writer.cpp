#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "lab/core/error.h"
#include "lab/train/safetensors.h"
#include "train/safetensors_format.h"

namespace lab {
namespace {

using nlohmann::json;
using Bytes = std::span<const std::byte>;

Bytes bytes_of(const TensorView& tensor) {
  const auto bytes = byte_count(tensor.type, tensor.shape);
  if (!bytes)
    throw Bug("the shape of tensor ", lab::quoted(tensor.name), " has a negative or an absurd dimension");
  return {static_cast<const std::byte*>(tensor.data), static_cast<size_t>(*bytes)};
}

Bytes bytes_of(const std::string& value) { return std::as_bytes(std::span(value)); }

// Where each tensor's array begins, and the tensors in the order of their arrays.
struct Layout {
  std::vector<size_t> order;
  std::vector<size_t> offsets;
};

Layout lay_out(std::span<const TensorView> tensors) {
  Layout layout{std::vector<size_t>(tensors.size()), std::vector<size_t>(tensors.size())};
  std::iota(layout.order.begin(), layout.order.end(), 0);
  std::stable_sort(layout.order.begin(), layout.order.end(),
                   [&](size_t a, size_t b) { return size_of(tensors[a].type) > size_of(tensors[b].type); });
  size_t end = 0;
  for (const size_t i : layout.order) {
    layout.offsets[i] = end;
    end += bytes_of(tensors[i]).size();
  }
  return layout;
}

// The text of the header, its own checksum left at zeros.
std::string header_text(std::span<const TensorView> tensors, const Layout& layout,
                        std::map<std::string, std::string> metadata) {
  json sums = json::object();
  for (const auto& tensor : tensors) sums[tensor.name] = checksum(bytes_of(tensor));
  metadata["lab.checksums"] = sums.dump();
  metadata.erase("lab.header");
  std::string out = text(detail::header_start, detail::no_digits, "\",", json(metadata).dump().substr(1));
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto& tensor = tensors[i];
    const size_t begin = layout.offsets[i], end = begin + bytes_of(tensor).size();
    out += text(',', json(tensor.name).dump(), R"(:{"dtype":")", safetensors_name(tensor.type),
                R"(","shape":)", json(tensor.shape).dump(), R"(,"data_offsets":[)", begin, ',', end, "]}");
  }
  return out + '}';
}

// Length, header, and spaces up to where the arrays begin.
std::string file_head(std::span<const TensorView> tensors, const Layout& layout,
                      const std::map<std::string, std::string>& metadata) {
  std::string header;
  try {
    header = header_text(tensors, layout, metadata);
  } catch (const json::exception& error) {
    throw Bug("a name or a text for a safetensors file is no UTF-8: ", error.what());
  }
  constexpr size_t alignment = 64;
  uint64_t length = header.size();
  length += (alignment - (sizeof length + length) % alignment) % alignment;
  header.resize(length, ' ');
  header.replace(detail::header_start.size(), detail::no_digits.size(), detail::header_checksum(header));
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + header;
}

void check_names(std::span<const TensorView> tensors) {
  std::set<std::string_view> names = {"__metadata__"};
  for (const auto& tensor : tensors)
    if (!names.insert(tensor.name).second)
      throw Bug("a safetensors file cannot hold two entries with the name ", lab::quoted(tensor.name));
}

// The file under its temporary name; gone again unless it was put in its place.
class PartialFile {
 public:
  explicit PartialFile(const std::string& path) : path_(path), name_(path + ".partial") {
    fd_ = open(name_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd_ < 0) fail("open it");
  }
  ~PartialFile() {
    if (fd_ >= 0) close(fd_);
    if (!placed_) unlink(name_.c_str());
  }
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;

  void write(Bytes bytes) {
    while (!bytes.empty()) {
      const ssize_t wrote = ::write(fd_, bytes.data(), std::min(bytes.size(), size_t{1} << 30));
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote <= 0) fail("write to it");
      bytes = bytes.subspan(static_cast<size_t>(wrote));
    }
  }

  void sync() {
    if (fsync(fd_) != 0) fail("bring it to the disk");
  }

  // Compares what can be read back at `offset` with what was to be there.
  void compare(size_t offset, Bytes expected, const std::string& what) {
    buffer_.resize(size_t{4} << 20);
    for (size_t done = 0; done < expected.size();) {
      const size_t wanted = std::min(buffer_.size(), expected.size() - done);
      const ssize_t got = pread(fd_, buffer_.data(), wanted, static_cast<off_t>(offset + done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail("read it back");
      if (got == 0 || std::memcmp(buffer_.data(), expected.data() + done, static_cast<size_t>(got)) != 0)
        throw IoError("what was written to ", lab::quoted(path_), " reads back differently (", what,
                      "); the file there before is untouched; check this disk, or write to another one");
      done += static_cast<size_t>(got);
    }
  }

  void put_in_place() {
    if (rename(name_.c_str(), path_.c_str()) != 0) fail("give it its name");
    placed_ = true;
    const auto folder = std::filesystem::path(path_).parent_path();
    const int directory = open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
      return;  // a folder that may be written to but not read: the rename stands all the same
    const bool synced = fsync(directory) == 0 || errno == EINVAL || errno == ENOTSUP;  // some cannot
    const int problem = errno;
    close(directory);
    errno = problem;
    if (!synced) fail("bring its name to the disk");
  }

 private:
  [[noreturn]] void fail(const char* what) {
    throw IoError("cannot write ", lab::quoted(path_), " (could not ", what, "): ", system_error_text(errno),
                  "; the file there before is untouched; check rights and free space of that folder");
  }

  std::string path_, name_;
  int fd_ = -1;
  bool placed_ = false;
  std::vector<std::byte> buffer_;
};

}  // namespace

void write_safetensors(const std::string& path, std::span<const TensorView> tensors,
                       const std::map<std::string, std::string>& metadata) {
  check_names(tensors);
  const Layout layout = lay_out(tensors);
  const std::string head = file_head(tensors, layout, metadata);
  PartialFile file(path);
  file.write(bytes_of(head));
  for (const size_t i : layout.order) file.write(bytes_of(tensors[i]));
  file.sync();
  file.compare(0, bytes_of(head), "the header");
  for (const size_t i : layout.order)
    file.compare(head.size() + layout.offsets[i], bytes_of(tensors[i]),
                 "tensor " + lab::quoted(tensors[i].name));
  file.put_in_place();
}

}  // namespace lab
