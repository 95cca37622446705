#pragma once
// One sample on its way from the file to a batch.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "lab/core/dtype.h"

namespace lab {

// The DType of an integer, bool, float or double of C++.
template <class T>
constexpr DType dtype_for() {
  static_assert(std::is_arithmetic_v<T> && sizeof(T) <= 8, "parts hold integers, bools, floats and doubles");
  if (std::is_same_v<T, bool>) return DType::boolean;
  if (std::is_floating_point_v<T>) return sizeof(T) == 4 ? DType::f32 : DType::f64;
  switch (sizeof(T)) {
    case 1:
      return std::is_signed_v<T> ? DType::i8 : DType::u8;
    case 2:
      return std::is_signed_v<T> ? DType::i16 : DType::u16;
    case 4:
      return std::is_signed_v<T> ? DType::i32 : DType::u32;
    default:
      return std::is_signed_v<T> ? DType::i64 : DType::u64;
  }
}

// One named array of a sample: shape without the sample dimension, row-major, elements of one type.
struct Part {
  std::string name;
  DType type = DType::f32;
  std::vector<int64_t> shape;
  std::vector<std::byte> bytes;  // keeps its capacity from sample to sample
  int64_t elements() const;
  template <class T>
  T* data() {
    return reinterpret_cast<T*>(bytes.data());
  }
  template <class T>
  const T* data() const {
    return reinterpret_cast<const T*>(bytes.data());
  }
  double number() const;  // its one element, of whatever type; throws DataError where it has more or none
};

using MetadataValue = std::variant<int64_t, double, std::string>;
std::string text_of(const MetadataValue& value);  // as tables show it: 17, 0.25, a text as it is

// What is known of a sample and goes into no tensor of a batch: numbers and texts by name, in order. For
// transforms, filters and splits.
class Metadata {
 public:
  using Entry = std::pair<std::string, MetadataValue>;
  void set(std::string_view name, MetadataValue value);  // in place of a value of that name
  bool has(std::string_view name) const;
  const MetadataValue& operator[](std::string_view name) const;  // throws ConfigError naming those there are
  const std::vector<Entry>& entries() const { return entries_; }
  bool empty() const { return entries_.empty(); }
  void clear() { entries_.clear(); }
  bool operator==(const Metadata&) const = default;

 private:
  std::vector<Entry> entries_;
};

struct Sample {
  // Its index in the file's fields, whatever selections of them it came through. In a concatenation the
  // samples of all its parts are counted on: each has an id of its own there.
  int64_t id = 0;
  DType precision = DType::f32;  // what transforms that make floats make: f32 or f64
  std::vector<Part> parts;
  Metadata metadata = {};

  bool has(std::string_view name) const;    // as a part
  Part& operator[](std::string_view name);  // throws ConfigError naming the parts there are
  const Part& operator[](std::string_view name) const;
  // Makes the part `name` these values, row-major; as many as the shape has (else DataError). New parts come
  // last.
  template <class T>
  void set(std::string_view name, std::vector<int64_t> shape, std::span<const T> values) {
    std::byte* bytes = reset(name, dtype_for<T>(), std::move(shape), values.size());
    std::ranges::copy(std::as_bytes(values), bytes);
  }
  template <class T>
  void set(std::string_view name, std::vector<int64_t> shape, const std::vector<T>& values) {
    set<T>(name, std::move(shape), std::span<const T>(values));
  }
  template <class T>
  requires std::is_arithmetic_v<T>
  void set(std::string_view name, T value) { set<T>(name, {}, std::span<const T>(&value, 1)); }

 private:
  std::byte* reset(std::string_view name, DType type, std::vector<int64_t> shape, size_t values);
};

}  // namespace lab
