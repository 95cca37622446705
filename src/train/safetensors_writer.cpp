#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "lab/core/error.h"
#include "lab/train/safetensors.h"
#include "train/partial_file.h"
#include "train/safetensors_format.h"
#include "train/tensor_bytes.h"

namespace lab {
namespace {

using nlohmann::json;
using Bytes = std::span<const std::byte>;

using detail::bytes_of;

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

}  // namespace

void write_safetensors(const std::string& path, std::span<const TensorView> tensors,
                       const std::map<std::string, std::string>& metadata) {
  check_names(tensors);
  const Layout layout = lay_out(tensors);
  const std::string head = file_head(tensors, layout, metadata);
  detail::PartialFile file(path);
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
