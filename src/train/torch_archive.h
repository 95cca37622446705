#pragma once
// The zip archive that a file of torch.save is, taken apart without trust.

#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace lab::detail {

struct TorchArchive {
  std::map<std::string, std::span<const std::byte>>
      entries;                                   // names within the archive's one folder: "data.pkl"
  std::vector<std::vector<std::byte>> inflated;  // of compressed entries; the others lie in the file
  bool has_checksums = true;                     // false: all are zero, which torch can be told to write
};

// Takes the bytes of a whole file apart; they must outlive the archive. Checks that entries lie within the
// file, one behind the other, under different and harmless names, that both of their headers agree, and their
// CRC-32. Throws DataError with the byte where it is wrong, without the file's name.
TorchArchive read_torch_archive(std::span<const std::byte> file);

}  // namespace lab::detail
