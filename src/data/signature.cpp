#include "data/signature.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>

#include "lab/core/error.h"
#include "lab/core/formatted.h"

namespace lab::detail {
namespace {

using namespace std::string_view_literals;

std::string bytes_at(const InputFile& file, uint64_t offset, uint64_t most) {
  if (offset >= file.size()) return "";
  std::string bytes(static_cast<size_t>(std::min(most, file.size() - offset)), '\0');
  file.read(offset, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

struct Kind {
  std::string_view magic;
  std::string_view advice;
};

constexpr std::array kinds = {
    Kind{"\x1f\x8b"sv,
         "it is compressed with gzip; for idx files run lab_data import idx, else gunzip it first"},
    Kind{"\0\0\x08\x03"sv, "it is an idx file of images; convert it with lab_data import idx"},
    Kind{"\0\0\x08\x01"sv, "it is an idx file of labels; convert it with lab_data import idx"},
    Kind{"PK\x03\x04"sv,
         "it is a zip file (.npz files are, too); write its arrays to an HDF5 file with h5py"},
    Kind{"\x93NUMPY"sv, "it is a NumPy file; write its array to an HDF5 file with h5py"},
    Kind{"\x0e\x03\x13\x01"sv, "it is an HDF4 file; convert it with h4toh5"},
    Kind{"version https://git-lfs"sv,
         "it is the pointer of a file in Git LFS; fetch the file with git lfs pull"},
};

std::string what_it_is(const std::string& head) {
  if (head.empty()) return "it is empty; copy or fetch it again";
  for (const Kind& kind : kinds)
    if (head.starts_with(kind.magic)) return std::string(kind.advice);
  const auto printable = [](unsigned char c) { return std::isprint(c) || std::isspace(c); };
  if (std::ranges::all_of(head, printable))
    return "it is text and begins with " + quoted(head.substr(0, 40)) + "; name an HDF5 file";
  std::string hex;
  for (const char c : head.substr(0, 8)) hex += formatted(" %02x", static_cast<unsigned char>(c));
  return "its first bytes are" + hex + "; name an HDF5 file";
}

// The superblock may stand behind a block of the user's: at byte 0, 512, 1024, 2048, ...
std::string find_superblock(const InputFile& file) {
  for (uint64_t offset = 0; offset < file.size(); offset = offset ? offset * 2 : 512) {
    std::string bytes = bytes_at(file, offset, 64);
    if (bytes.starts_with("\x89HDF\r\n\x1a\n"sv)) return bytes;
  }
  throw DataError(file.path(), " is not an HDF5 file: ", what_it_is(bytes_at(file, 0, 64)));
}

// Where the file ends by its own account, or 0 where the superblock is of a kind that does not tell.
uint64_t promised_size(const std::string& superblock) {
  const auto byte = [&](size_t i) {
    return i < superblock.size() ? static_cast<unsigned char>(superblock[i]) : 0u;
  };
  const unsigned version = byte(8);
  const size_t offset_size = version < 2 ? byte(13) : byte(9);
  if (version > 3 || offset_size != 8) return 0;
  const size_t place = version == 0 ? 40 : version == 1 ? 44 : 28;
  uint64_t size = 0;
  for (size_t i = 8; i-- > 0;) size = size << 8 | byte(place + i);
  return size;
}

}  // namespace

void check_hdf5_signature(const InputFile& file) {
  const uint64_t promised = promised_size(find_superblock(file));
  if (promised > file.size())
    throw DataError(file.path(), " was cut short: it should have ", promised, " bytes and has ", file.size(),
                    "; copy or fetch it again");
}

}  // namespace lab::detail
