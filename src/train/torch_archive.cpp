#include "train/torch_archive.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <string_view>

#include "lab/core/error.h"
#include "train/torch_tree.h"

namespace lab::detail {
namespace {

using Bytes = std::span<const std::byte>;

// What a rezipped file may grow to: far more than weights shrink, far less than a zip bomb grows.
constexpr uint64_t most_growth = 100, free_growth = uint64_t{1} << 20;
constexpr uint32_t in_zip64 = 0xFFFFFFFF;

template <class... Parts>
[[noreturn]] void damaged(uint64_t offset, const Parts&... parts) {
  throw DataError("at byte ", offset, ": ", text(parts...), "; copy the file again, or take another one");
}

// A number of the format, little-endian.
template <class Number>
Number number_at(Bytes bytes, uint64_t offset) {
  Number out = 0;
  if (bytes.size() < sizeof out || offset > bytes.size() - sizeof out)
    damaged(offset, "it ends within the description of an archive");
  std::memcpy(&out, bytes.data() + offset, sizeof out);
  return out;
}
constexpr auto u16_at = number_at<uint16_t>;
constexpr auto u32_at = number_at<uint32_t>;
constexpr auto u64_at = number_at<uint64_t>;

Bytes part(Bytes bytes, uint64_t offset, uint64_t count, uint64_t shown_offset) {
  if (offset > bytes.size() || count > bytes.size() - offset)
    damaged(shown_offset, "it speaks of ", count, " bytes at ", offset, ", where ", bytes.size(),
            " bytes are there");
  return bytes.subspan(offset, count);
}

std::string text_of(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

// Where the list of the archive's entries lies.
struct Directory {
  uint64_t begin = 0, end = 0, entries = 0;
};

Directory find_directory(Bytes file) {
  constexpr uint64_t end_bytes = 22, locator_bytes = 20, end64_bytes = 56;
  if (file.size() < end_bytes) damaged(file.size(), "it ends before an archive could");
  const uint64_t end = file.size() - end_bytes;
  if (u32_at(file, end) != 0x06054b50 || u16_at(file, end + 20) != 0)
    damaged(end,
            "the end of the archive is not there: the file was cut short, or something was put behind it");
  const uint64_t entries = u16_at(file, end + 10), bytes = u32_at(file, end + 12),
                 begin = u32_at(file, end + 16);
  Directory out{begin, begin + bytes, entries};
  uint64_t expected_end = end;
  if (end >= locator_bytes + end64_bytes && u32_at(file, end - locator_bytes) == 0x07064b50) {
    const uint64_t end64 = end - locator_bytes - end64_bytes;
    if (u32_at(file, end64) != 0x06064b50 || u64_at(file, end - locator_bytes + 8) != end64 ||
        u64_at(file, end64 + 4) != end64_bytes - 12)
      damaged(end64, "the two descriptions of the archive's end disagree");
    out = {u64_at(file, end64 + 48), u64_at(file, end64 + 48) + u64_at(file, end64 + 40),
           u64_at(file, end64 + 32)};
    if ((begin != in_zip64 && begin != out.begin) || (bytes != in_zip64 && bytes != out.end - out.begin) ||
        (entries != 0xFFFF && entries != out.entries) || u64_at(file, end64 + 24) != out.entries)
      damaged(end, "the two descriptions of the archive's end disagree");
    expected_end = end64;
  } else if (u16_at(file, end + 8) != entries) {
    damaged(end, "the archive is one part of several");
  }
  if (out.begin > out.end || out.end != expected_end)
    damaged(end, "the list of its entries does not lie before its end");
  return out;
}

struct Entry {
  std::string name;
  uint64_t listed_at = 0;  // its line in the directory
  uint64_t header_at = 0, begin = 0, packed = 0, bytes = 0;
  uint32_t crc = 0;
  uint16_t flags = 0, method = 0;
  uint64_t end() const { return begin + packed; }
};

// The 64-bit numbers that stand in for those of 32 bits that are all ones.
void read_zip64(Bytes extra, uint64_t extra_at, Entry& entry) {
  for (uint64_t at = 0; at < extra.size();) {
    const uint16_t id = u16_at(extra, at), size = u16_at(extra, at + 2);
    const Bytes field = part(extra, at + 4, size, extra_at + at);
    at += uint64_t{4} + size;
    if (id != 1) continue;
    uint64_t next = 0;
    for (uint64_t* number : {&entry.bytes, &entry.packed, &entry.header_at})
      if (*number == in_zip64) {
        *number = u64_at(field, next);
        next += 8;
      }
    return;
  }
}

void check_name(const Entry& entry) {
  if (!is_utf8(entry.name)) damaged(entry.listed_at, "the name of an entry is no UTF-8");
  const auto refuse = [&](const char* what) {
    damaged(entry.listed_at, "the name ", quoted(entry.name.substr(0, 100)), " of an entry ", what);
  };
  if (entry.name.empty() || entry.name.size() > 1024) refuse("is empty or absurdly long");
  if (entry.name.front() == '/' || entry.name.find('\\') != std::string::npos)
    refuse("is not relative to the archive");
  if (std::any_of(entry.name.begin(), entry.name.end(),
                  [](char c) { return static_cast<unsigned char>(c) < 0x20; }))
    refuse("has control characters");
  const std::string within = "/" + entry.name + "/";
  if (within.find("/../") != std::string::npos || within.find("/./") != std::string::npos)
    refuse("leads elsewhere");
}

// The line of the directory at `at`, which then stands behind it.
Entry listed_entry(Bytes file, const Directory& directory, uint64_t& at) {
  const Bytes lines = file.first(directory.end);
  Entry entry;
  entry.listed_at = at;
  if (u32_at(lines, at) != 0x02014b50) damaged(at, "this is no line of the list of entries");
  entry.flags = u16_at(lines, at + 8);
  entry.method = u16_at(lines, at + 10);
  entry.crc = u32_at(lines, at + 16);
  entry.packed = u32_at(lines, at + 20);
  entry.bytes = u32_at(lines, at + 24);
  const uint16_t name = u16_at(lines, at + 28), extra = u16_at(lines, at + 30),
                 comment = u16_at(lines, at + 32);
  entry.header_at = u32_at(lines, at + 42);
  entry.name = text_of(part(lines, at + 46, name, at));
  read_zip64(part(lines, at + 46 + name, extra, at), at + 46 + name, entry);
  part(lines, at + 46 + name + extra, comment, at);
  at += uint64_t{46} + name + extra + comment;
  check_name(entry);
  if (entry.flags & 1) damaged(entry.listed_at, "the entry ", quoted(entry.name), " is encrypted");
  if (entry.method != 0 && entry.method != 8)
    damaged(entry.listed_at, "the entry ", quoted(entry.name), " is packed in a way (", entry.method,
            ") that is neither stored nor deflated");
  if (entry.method == 0 && entry.packed != entry.bytes)
    damaged(entry.listed_at, "the entry ", quoted(entry.name), " is stored, but its two lengths differ");
  return entry;
}

// Finds the entry's bytes behind its own header, which must agree with its line in the directory.
void locate(Bytes file, const Directory& directory, Entry& entry) {
  constexpr uint16_t sizes_follow = 8;
  const Bytes before = file.first(directory.begin);
  const uint64_t at = entry.header_at;
  if (u32_at(before, at) != 0x04034b50)
    damaged(at, "the entry ", quoted(entry.name), " does not begin where it is said to");
  const uint16_t name = u16_at(before, at + 26), extra = u16_at(before, at + 28);
  if (text_of(part(before, at + 30, name, at)) != entry.name || u16_at(before, at + 6) != entry.flags ||
      u16_at(before, at + 8) != entry.method)
    damaged(at, "the two headers of the entry ", quoted(entry.name), " disagree");
  entry.begin = at + 30 + name + extra;
  part(before, entry.begin, entry.packed, at);
  if (entry.flags & sizes_follow) return;
  const uint32_t packed = u32_at(before, at + 18), bytes = u32_at(before, at + 22);
  if (u32_at(before, at + 14) != entry.crc || (packed != in_zip64 && packed != entry.packed) ||
      (bytes != in_zip64 && bytes != entry.bytes))
    damaged(at, "the two headers of the entry ", quoted(entry.name), " disagree");
}

void check_order(std::vector<Entry> entries) {
  std::sort(entries.begin(), entries.end(), [](auto& a, auto& b) { return a.header_at < b.header_at; });
  for (size_t i = 1; i < entries.size(); ++i)
    if (entries[i].header_at < entries[i - 1].end())
      damaged(entries[i].header_at, "the entries ", quoted(entries[i - 1].name), " and ",
              quoted(entries[i].name), " overlap");
}

void check_growth(const std::vector<Entry>& entries, uint64_t file_bytes) {
  uint64_t left = file_bytes * most_growth + free_growth;
  for (const Entry& entry : entries) {
    if (entry.bytes > left)
      damaged(entry.listed_at, "unpacked, its entries would take over ", most_growth, " times the ",
              file_bytes, " bytes of the file");
    left -= entry.bytes;
  }
}

std::vector<std::byte> inflated(Bytes packed, const Entry& entry) {
  constexpr uint64_t most = std::numeric_limits<uInt>::max();
  if (packed.size() > most || entry.bytes >= most)
    throw DataError("the entry ", quoted(entry.name),
                    " is deflated and over 4 GiB; zip the file again without compression");
  std::vector<std::byte> out(entry.bytes + 1);  // one more, to notice what is longer than announced
  z_stream stream{};
  if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) throw IoError("zlib cannot begin; is there memory left?");
  stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int result = inflate(&stream, Z_FINISH);
  const bool whole = result == Z_STREAM_END && stream.avail_in == 0 && stream.avail_out == 1;
  inflateEnd(&stream);
  if (!whole)
    damaged(entry.begin, "the entry ", quoted(entry.name), " cannot be inflated to ", entry.bytes, " bytes");
  out.pop_back();
  return out;
}

std::vector<Entry> read_entries(Bytes file) {
  const Directory directory = find_directory(file);
  std::vector<Entry> entries;
  uint64_t at = directory.begin;
  while (at < directory.end) entries.push_back(listed_entry(file, directory, at));
  if (entries.size() != directory.entries)
    damaged(directory.begin, "it lists ", entries.size(), " entries, ", directory.entries, " are announced");
  for (Entry& entry : entries) locate(file, directory, entry);
  check_order(entries);
  check_growth(entries, file.size());
  return entries;
}

// The folder that all entries lie in.
std::string folder_of(const std::vector<Entry>& entries) {
  const Entry* program = nullptr;
  for (const Entry& entry : entries) {
    const size_t slash = entry.name.find('/');
    if (slash == std::string::npos || entry.name.substr(slash) != "/data.pkl") continue;
    if (program)
      damaged(entry.listed_at, "it holds two saved objects, ", quoted(program->name), " and ",
              quoted(entry.name));
    program = &entry;
  }
  if (!program)
    throw DataError(
        "it is a zip archive, but no file of torch.save: there is no entry */data.pkl in it; name a "
        "checkpoint");
  return program->name.substr(0, program->name.find('/') + 1);
}

}  // namespace

TorchArchive read_torch_archive(Bytes file) {
  const std::vector<Entry> entries = read_entries(file);
  const std::string folder = folder_of(entries);
  TorchArchive out;
  out.has_checksums =
      std::any_of(entries.begin(), entries.end(), [](const Entry& entry) { return entry.crc != 0; });
  for (const Entry& entry : entries) {
    if (!entry.name.starts_with(folder))
      damaged(entry.listed_at, "the entry ", quoted(entry.name), " lies outside of the folder ",
              quoted(folder));
    Bytes bytes = file.subspan(entry.begin, entry.packed);
    if (entry.method != 0) bytes = out.inflated.emplace_back(inflated(bytes, entry));
    const auto* start = reinterpret_cast<const Bytef*>(bytes.data());
    if (const auto crc = crc32_z(0, start, bytes.size());
        out.has_checksums && !bytes.empty() && crc != entry.crc)
      damaged(entry.begin, "the entry ", quoted(entry.name), " has the CRC ", crc, ", ", entry.crc,
              " was written");
    if (!out.entries.emplace(entry.name.substr(folder.size()), bytes).second)
      damaged(entry.listed_at, "there are two entries ", quoted(entry.name));
  }
  return out;
}

}  // namespace lab::detail
