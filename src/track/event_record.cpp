#include "track/event_record.h"

#include <array>
#include <bit>
#include <nlohmann/json.hpp>
#include <string_view>

namespace lab::detail {
namespace {

// CRC-32C (Castagnoli), reflected, by bytes.
constexpr std::array<uint32_t, 256> crc_table = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < table.size(); ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? 0x82F63B78u : 0);
    table[i] = crc;
  }
  return table;
}();

// As TFRecord stores it: turned and moved, since a checksum over bytes that hold checksums is weak.
uint32_t masked_crc(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char c : bytes) crc = (crc >> 8) ^ crc_table[(crc ^ static_cast<unsigned char>(c)) & 0xff];
  return std::rotr(~crc, 15) + 0xa282ead8u;
}

template <class Unsigned>
std::string little_endian(Unsigned value) {
  std::string out;
  for (size_t i = 0; i < sizeof value; ++i) out += static_cast<char>((value >> (8 * i)) & 0xff);
  return out;
}

std::string varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7f) | 0x80);
  return out + static_cast<char>(value);
}

enum class Wire : uint64_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };
std::string key(uint64_t field, Wire wire) { return varint(field << 3 | static_cast<uint64_t>(wire)); }

std::string number(uint64_t field, uint64_t value) { return key(field, Wire::varint) + varint(value); }
std::string real(uint64_t field, double value) {
  return key(field, Wire::fixed64) + little_endian(std::bit_cast<uint64_t>(value));
}
std::string real(uint64_t field, float value) {
  return key(field, Wire::fixed32) + little_endian(std::bit_cast<uint32_t>(value));
}
std::string bytes(uint64_t field, std::string_view value) {
  return key(field, Wire::bytes) + varint(value.size()) + std::string(value);
}

// Readers refuse a whole message for one string that is no UTF-8; the JSON library knows how to replace what
// is not.
std::string utf8(const std::string& value) {
  using nlohmann::json;
  return json::parse(json(value).dump(-1, ' ', false, json::error_handler_t::replace)).get<std::string>();
}

std::string event(double wall_time, uint64_t step, const std::string& what) {
  const std::string message = real(1, wall_time) + number(2, step) + what;
  const std::string length = little_endian(uint64_t{message.size()});
  return length + little_endian(masked_crc(length)) + message + little_endian(masked_crc(message));
}

}  // namespace

std::optional<size_t> record_end(std::string_view file, size_t begin) {
  constexpr size_t before = 12, behind = 4;  // length and its checksum; the message's checksum
  if (begin + before > file.size()) return std::nullopt;
  uint64_t length = 0;
  for (size_t i = 0; i < sizeof length; ++i)
    length |= uint64_t{static_cast<unsigned char>(file[begin + i])} << (8 * i);
  if (length > file.size() - begin - before || file.size() - begin - before - length < behind)
    return std::nullopt;
  return begin + before + length + behind;
}

std::string file_version_record(double wall_time) { return event(wall_time, 0, bytes(3, "brain.Event:2")); }

std::string scalars_record(std::span<const Scalar> points, double wall_time) {
  std::string summary;
  for (const auto& point : points)
    summary += bytes(1, bytes(1, utf8(point.tag)) + real(2, static_cast<float>(point.value)));
  const auto step = static_cast<uint64_t>(points.empty() ? 0 : points.front().step);
  return event(wall_time, step, bytes(5, summary));
}

std::string text_record(const std::string& tag, const std::string& value, double wall_time) {
  constexpr uint64_t type_string = 7;
  const std::string plugin = bytes(1, "text");
  const std::string metadata = bytes(1, plugin);
  const std::string shape = bytes(2, number(1, 1));  // one dimension, of size 1
  const std::string tensor = number(1, type_string) + bytes(2, shape) + bytes(8, utf8(value));
  return event(wall_time, 0, bytes(5, bytes(1, bytes(1, utf8(tag)) + bytes(8, tensor) + bytes(9, metadata))));
}

std::string picture_record(const std::string& tag, const Picture& picture, int64_t step, double wall_time) {
  if (picture.empty()) return event(wall_time, static_cast<uint64_t>(step), "");
  constexpr uint64_t rgb = 3;
  const std::string image = number(1, static_cast<uint64_t>(picture.height)) +
                            number(2, static_cast<uint64_t>(picture.width)) + number(3, rgb) +
                            bytes(4, picture.png);
  return event(wall_time, static_cast<uint64_t>(step),
               bytes(5, bytes(1, bytes(1, utf8(tag)) + bytes(4, image))));
}

}  // namespace lab::detail
