#include "lab/train/safetensors.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <new>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <utility>

#include "lab/core/error.h"
#include "train/safetensors_format.h"
#include "train/tensor_bytes.h"

namespace lab {
namespace {

using nlohmann::json;
static_assert(std::endian::native == std::endian::little, "the format is little-endian");

constexpr uint64_t most_header_bytes = 100'000'000;  // as in the format's own library
constexpr int most_depth = 4;
constexpr size_t data_alignment = 64;

// What is wrong with a file, without its name.
struct Damage : std::runtime_error {
  template <class... Parts>
  explicit Damage(const Parts&... parts) : std::runtime_error(text(parts...)) {}
};

// A name out of a file that may hold anything.
std::string shown(const std::string& name) {
  constexpr size_t most = 100;
  return name.size() <= most ? lab::quoted(name) : lab::quoted(name.substr(0, most)) + "...";
}

using detail::Descriptor;

void read_exactly(int fd, void* to, int64_t bytes) {
  for (auto* at = static_cast<std::byte*>(to); bytes > 0;) {
    const ssize_t got = ::read(fd, at, static_cast<size_t>(std::min<int64_t>(bytes, 1 << 30)));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw IoError("cannot read it: ", system_error_text(errno));
    if (got == 0) throw Damage("it ends ", bytes, " bytes early");
    at += got;
    bytes -= got;
  }
}

std::shared_ptr<std::byte> aligned_bytes(int64_t bytes) {
  constexpr std::align_val_t alignment{data_alignment};
  auto* memory =
      static_cast<std::byte*>(operator new(static_cast<size_t>(std::max<int64_t>(bytes, 1)), alignment));
  return {memory, [](std::byte* owned) { operator delete(owned, alignment); }};
}

// Parses JSON and refuses what the parser lets pass: a name twice in one object, and nesting that no header
// has. `keys` receives the names of the outermost object in their order.
json parse_strictly(const std::string& bytes, std::vector<std::string>& keys) {
  std::vector<std::set<std::string>> open;
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth > most_depth) throw Damage("its header is nested deeper than a header is");
    if (event == json::parse_event_t::object_start) open.emplace_back();
    if (event == json::parse_event_t::object_end) open.pop_back();
    if (event == json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!open.back().insert(key).second) throw Damage("its header has ", shown(key), " twice");
      if (open.size() == 1) keys.push_back(key);
    }
    return true;
  };
  try {
    return json::parse(bytes, watch);
  } catch (const json::exception& error) {
    throw Damage("its header is no JSON (", std::string(error.what()).substr(0, 200), ")");
  }
}

DType type_from(const std::string& name) {
  for (int i = 0; i <= static_cast<int>(DType::boolean); ++i)
    if (safetensors_name(static_cast<DType>(i)) == name) return static_cast<DType>(i);
  throw Damage("elements of type ", shown(name), " are unknown");
}

int64_t natural_number(const json& value, const char* what) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() > INT64_MAX)
    throw Damage("an element of ", what, " is not a number from 0 to 2^63 - 1");
  return value.get<int64_t>();
}

const json& member(const json& entry, const char* name, bool (json::*is_right)() const noexcept) {
  const auto found = entry.find(name);
  if (found == entry.end() || !((*found).*is_right)()) throw Damage(name, " is missing or of another kind");
  return *found;
}

// Where an array lies within the data.
struct Extent {
  int64_t begin = 0, end = 0;
  auto operator<=>(const Extent&) const = default;
};

Extent parse_tensor(const json& entry, TensorView& tensor, int64_t data_bytes) {
  if (!entry.is_object()) throw Damage("its entry is not a table");
  tensor.type = type_from(member(entry, "dtype", &json::is_string).get<std::string>());
  for (const auto& size : member(entry, "shape", &json::is_array))
    tensor.shape.push_back(natural_number(size, "shape"));
  const json& offsets = member(entry, "data_offsets", &json::is_array);
  if (offsets.size() != 2) throw Damage("data_offsets has ", offsets.size(), " elements, 2 are wanted");
  const Extent extent{natural_number(offsets[0], "data_offsets"), natural_number(offsets[1], "data_offsets")};
  if (extent.begin > extent.end || extent.end > data_bytes)
    throw Damage("bytes ", extent.begin, " to ", extent.end, " do not lie within the ", data_bytes,
                 " bytes of data that the file has");
  if (const auto bytes = byte_count(tensor.type, tensor.shape); bytes != extent.end - extent.begin)
    throw Damage("its shape asks for ", bytes ? text(*bytes) : "too many", " bytes, data_offsets for ",
                 extent.end - extent.begin);
  return extent;
}

// The format allows neither gaps nor overlaps: nothing can be hidden between arrays.
void check_extents(std::vector<Extent> extents, int64_t data_bytes) {
  std::sort(extents.begin(), extents.end());
  int64_t end = 0;
  for (const Extent& extent : extents) {
    if (extent.begin != end)
      throw Damage("its tensors overlap or leave a gap at byte ", std::min(end, extent.begin));
    end = extent.end;
  }
  if (end != data_bytes) throw Damage("its tensors take ", end, " bytes, ", data_bytes, " are there");
}

std::span<const std::byte> bytes_of(const TensorView& tensor) {
  return {static_cast<const std::byte*>(tensor.data),
          static_cast<size_t>(byte_count(tensor.type, tensor.shape).value())};
}

}  // namespace

std::optional<int64_t> byte_count(DType type, std::span<const int64_t> shape) {
  int64_t bytes = size_of(type);
  for (const int64_t size : shape)
    if (size < 0 || __builtin_mul_overflow(bytes, size, &bytes)) return std::nullopt;
  return bytes;
}

std::string checksum(std::span<const std::byte> bytes) {
  std::array<char, 17> digits{};
  std::snprintf(digits.data(), digits.size(), "%016llx",
                static_cast<unsigned long long>(XXH3_64bits(bytes.data(), bytes.size())));
  return digits.data();
}

std::string detail::header_checksum(std::string header) {
  header.replace(header_start.size(), no_digits.size(), no_digits);
  return checksum(std::as_bytes(std::span(header)));
}

SafetensorsFile::SafetensorsFile(std::string path) : path_(std::move(path)) {
  try {
    read();
  } catch (const Damage& damage) {
    throw DataError(lab::quoted(path_), " is not a whole safetensors file: ", damage.what(),
                    "; copy it again, or take another checkpoint");
  } catch (const IoError& error) {
    throw IoError(lab::quoted(path_), ": ", error.what(), "; check the disk it is on");
  } catch (const std::bad_alloc&) {
    throw IoError(lab::quoted(path_), " does not fit into memory; run where there is more of it");
  }
}

void SafetensorsFile::read() {
  const Descriptor file(open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.fd < 0 && (errno == ENOENT || errno == ENOTDIR))
    throw InputNotFound("the file ", lab::quoted(path_),
                        " is not there; check the path (it is relative to the current folder)");
  struct stat info {};
  if (file.fd < 0 || fstat(file.fd, &info) != 0) throw IoError("cannot open it: ", system_error_text(errno));
  if (!S_ISREG(info.st_mode))
    throw InputNotFound(lab::quoted(path_), " is a folder or a device, a .safetensors file is wanted");
  uint64_t header_bytes = 0;
  if (info.st_size < 8) throw Damage("it has ", info.st_size, " bytes, less than any such file");
  read_exactly(file.fd, &header_bytes, sizeof header_bytes);
  if (header_bytes > most_header_bytes || header_bytes > static_cast<uint64_t>(info.st_size) - 8)
    throw Damage("its first 8 bytes announce a header of ", header_bytes, " bytes, the file has ",
                 info.st_size);
  header_.resize(header_bytes);
  read_exactly(file.fd, header_.data(), static_cast<int64_t>(header_bytes));
  const int64_t data_bytes = info.st_size - 8 - static_cast<int64_t>(header_bytes);
  parse_header(data_bytes);
  read_exactly(file.fd, data_.get(), data_bytes);
}

void SafetensorsFile::parse_header(int64_t data_bytes) {
  if (!header_.starts_with('{')) throw Damage("its header does not begin with '{'");
  const json header = parse_strictly(header_, names_);
  std::erase(names_, "__metadata__");
  if (const auto found = header.find("__metadata__"); found != header.end()) {
    if (!found->is_object()) throw Damage("its metadata is not a table");
    for (const auto& [key, value] : found->items()) {
      if (!value.is_string()) throw Damage("its metadata ", shown(key), " is not a text");
      metadata_[key] = value.get<std::string>();
    }
  }
  std::vector<Extent> extents;
  for (const auto& name : names_) {
    TensorView& tensor = tensors_[name];
    tensor.name = name;
    try {
      extents.push_back(parse_tensor(header.at(name), tensor, data_bytes));
    } catch (const Damage& damage) {
      throw Damage("tensor ", shown(name), ": ", damage.what());
    }
  }
  check_extents(extents, data_bytes);
  data_ = aligned_bytes(data_bytes);
  for (size_t i = 0; i < names_.size(); ++i) tensors_[names_[i]].data = data_.get() + extents[i].begin;
}

const TensorView* SafetensorsFile::find(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

bool SafetensorsFile::verify() const {
  const auto header = metadata_.find("lab.header"), sums = metadata_.find("lab.checksums");
  if (header == metadata_.end() && sums == metadata_.end()) return false;
  const auto refuse = [&](const auto&... what) {
    throw DataError(
        lab::quoted(path_), " is damaged: ", what...,
        "; copy it again, or take another checkpoint (a program that changes such a file must leave "
        "lab.header and lab.checksums out of its metadata)");
  };
  if (header == metadata_.end() || sums == metadata_.end()) refuse("one of its checksums is gone");
  if (!header_.starts_with(detail::header_start)) refuse("its header does not begin as lab writes it");
  if (const auto actual = detail::header_checksum(header_); actual != header->second)
    refuse("its header has the checksum ", actual, ", ", shown(header->second), " was written");
  const json expected = json::parse(sums->second, nullptr, false);
  if (!expected.is_object() || expected.size() != names_.size())
    refuse("its checksums are not those of its tensors");
  for (const auto& name : names_) {
    const auto actual = checksum(bytes_of(tensors_.at(name)));
    if (expected.value(name, json()) != actual)
      refuse("tensor ", shown(name), " has the checksum ", actual, ", ", expected.value(name, json()).dump(),
             " was written");
  }
  return true;
}

}  // namespace lab
