#include "train/gather.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>

namespace lab {
namespace {

template <class T>
void append(std::vector<std::byte>& out, const T& value) {
  const auto bytes = std::as_bytes(std::span(&value, 1));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

template <class T>
T taken(std::span<const std::byte>& rest) {
  T value;
  std::memcpy(&value, rest.data(), sizeof value);
  rest = rest.subspan(sizeof value);
  return value;
}

// Its kind, then the number, or length and bytes of the text.
void append_value(std::vector<std::byte>& out, const MetadataValue& value) {
  append(out, static_cast<uint8_t>(value.index()));
  if (const auto* whole = std::get_if<int64_t>(&value)) return append(out, *whole);
  if (const auto* number = std::get_if<double>(&value)) return append(out, *number);
  const auto& text = std::get<std::string>(value);
  append(out, static_cast<uint64_t>(text.size()));
  const auto bytes = std::as_bytes(std::span(text));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

MetadataValue taken_value(std::span<const std::byte>& rest) {
  const auto kind = taken<uint8_t>(rest);
  if (kind == 0) return taken<int64_t>(rest);
  if (kind == 1) return taken<double>(rest);
  const auto size = taken<uint64_t>(rest);
  std::string text(reinterpret_cast<const char*>(rest.data()), size);
  rest = rest.subspan(size);
  return text;
}

}  // namespace

std::vector<std::byte> gather(Communicator& comm, std::vector<std::byte> own) {
  std::vector<int64_t> sizes(static_cast<size_t>(comm.size()), 0);
  sizes[static_cast<size_t>(comm.rank())] = std::ssize(own);
  comm.all_gather({sizes.data(), comm.size(), DType::i64});
  std::vector<Message> sends, receives;
  const auto message = [](int peer, std::byte* data, int64_t bytes) {
    return Message{peer, {data, bytes, DType::u8}};
  };
  if (comm.rank() != 0) {
    if (!own.empty()) sends.push_back(message(0, own.data(), std::ssize(own)));
  } else {
    int64_t end = sizes[0], all = 0;
    for (const int64_t size : sizes) all += size;
    own.resize(static_cast<size_t>(all));
    for (int rank = 1; rank < comm.size(); ++rank) {
      const int64_t size = sizes[static_cast<size_t>(rank)];
      if (size > 0) receives.push_back(message(rank, own.data() + end, size));
      end += size;
    }
  }
  comm.exchange(sends, receives);
  return comm.rank() == 0 ? std::move(own) : std::vector<std::byte>();
}

std::vector<MetadataValue> gather_values(Communicator& comm, const std::vector<MetadataValue>& own) {
  std::vector<std::byte> bytes;
  for (const MetadataValue& value : own) append_value(bytes, value);
  bytes = gather(comm, std::move(bytes));
  std::vector<MetadataValue> values;
  for (std::span<const std::byte> rest = bytes; !rest.empty();) values.push_back(taken_value(rest));
  return values;
}

TableColumn column_of_metadata(const std::string& name, const std::vector<MetadataValue>& values) {
  TableColumn column{.name = name, .type = DType::i64};
  for (const MetadataValue& value : values) {
    if (std::holds_alternative<double>(value)) column.type = DType::f64;
    if (std::holds_alternative<std::string>(value)) column.is_text = true;
  }
  for (const MetadataValue& value : values) {
    const auto* whole = std::get_if<int64_t>(&value);
    if (column.is_text)
      column.texts.push_back(text_of(value));
    else if (column.type == DType::i64)
      append(column.bytes, *whole);
    else
      append(column.bytes, whole ? static_cast<double>(*whole) : std::get<double>(value));
  }
  return column;
}

}  // namespace lab
