#include "lab/data/transform.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <utility>

#include "data/elements.h"
#include "data/geometry.h"
#include "lab/core/error.h"

namespace lab {
namespace {

// Where a transform builds the new bytes of a part, before the two swap places: no allocation from sample to
// sample.
std::vector<std::byte>& scratch(size_t size) {
  thread_local std::vector<std::byte> bytes;
  bytes.resize(size);
  return bytes;
}

std::string place_of(const Sample& sample, const Part& part) {
  return text("'", part.name, "' of sample ", sample.id);
}

struct Image {  // the last two dimensions of a part; the ones before count as planes
  int64_t planes, height, width;
  int64_t row_bytes;
};

Image image_of(const Sample& sample, const Part& part) {
  const size_t rank = part.shape.size();
  if (rank < 2)
    throw DataError(place_of(sample, part), " has the shape ", detail::shape_text(part.shape),
                    "; an image (..., H, W) is wanted");
  const int64_t height = part.shape[rank - 2], width = part.shape[rank - 1];
  const int64_t planes = height * width == 0 ? 0 : part.elements() / (height * width);
  return {planes, height, width, width * size_of(part.type)};
}

template <class Out, class Function>
void make_floats(Part& part, DType type, const Function& function) {
  const auto count = static_cast<size_t>(part.elements());
  std::vector<std::byte>& made = scratch(count * sizeof(Out));
  auto* out = reinterpret_cast<Out*>(made.data());
  detail::visit_type(part.type, [&]<class In>(In) {
    const In* in = part.data<In>();
    for (size_t i = 0; i < count; ++i) out[i] = static_cast<Out>(function(static_cast<double>(in[i])));
  });
  part.bytes.swap(made);
  part.type = type;
}

// A byte has 256 values only, so that a table does the arithmetic.
template <class Out>
using Table = std::array<Out, 256>;

template <class Out>
void look_up(Part& part, DType type, const Table<Out>& table) {
  const size_t count = part.bytes.size();
  std::vector<std::byte>& made = scratch(count * sizeof(Out));
  auto* out = reinterpret_cast<Out*>(made.data());
  const auto* in = part.data<uint8_t>();
#pragma GCC unroll 16  // else counting takes as long as the look-up
  for (size_t i = 0; i < count; ++i) out[i] = table[in[i]];
  part.bytes.swap(made);
  part.type = type;
}

// `function`, from double to double, on each element, rounded once to the run's precision.
template <class Function>
Transform pointwise(std::string name, std::string part_name, Function function) {
  struct Tables {
    Table<float> f32;
    Table<double> f64;
  };
  auto tables = std::make_shared<Tables>();
  for (size_t i = 0; i < 256; ++i) {
    tables->f64[i] = function(static_cast<double>(i));
    tables->f32[i] = static_cast<float>(tables->f64[i]);
  }
  return map(std::move(name), [part_name = std::move(part_name), function,
                               tables = std::shared_ptr<const Tables>(tables)](Sample& sample, Rng&) {
    Part& part = sample[part_name];
    const bool is_double = sample.precision == DType::f64;
    if (part.type == DType::u8 && is_double) return look_up(part, DType::f64, tables->f64);
    if (part.type == DType::u8) return look_up(part, DType::f32, tables->f32);
    if (is_double) return make_floats<double>(part, DType::f64, function);
    make_floats<float>(part, DType::f32, function);
  });
}

std::string checked_probability(const char* name, const std::string& part, double probability) {
  std::string full = text(name, "(", part, ", ", shortest(probability), ")");
  if (!(probability >= 0 && probability <= 1))
    throw ConfigError(full, ": the probability ", shortest(probability), " is not in [0, 1]");
  return full;
}

// The class a sample belongs to. Throws DataError when the part holds anything but one integer in [0,
// classes).
int64_t class_of(const Sample& sample, const Part& part, int64_t classes) {
  if (is_floating(part.type) || part.elements() != 1)
    throw DataError(place_of(sample, part), " has the type ", name_of(part.type), " and the shape ",
                    detail::shape_text(part.shape), "; one integer is wanted");
  return detail::visit_type(part.type, [&]<class In>(In) -> int64_t {
    if constexpr (std::is_integral_v<In>) {
      const In label = *part.data<In>();
      if (std::cmp_greater_equal(label, 0) && std::cmp_less(label, classes))
        return static_cast<int64_t>(label);
      throw DataError(place_of(sample, part), " is the label ", +label, ", which is not in [0, ", classes - 1,
                      "]; correct the file, or raise the number of classes");
    }
    throw Bug("a float as a label");
  });
}

std::string checked_classes(const char* name, const std::string& part, int64_t classes) {
  std::string full = text(name, "(", part, ", ", classes, ")");
  if (classes < 1) throw ConfigError(full, ": there must be at least one class");
  return full;
}

}  // namespace

Transform map(std::string name, std::function<void(Sample&, Rng&)> apply) {
  return {std::move(name), std::move(apply)};
}

Transform scale(std::string part, double factor) {
  std::string name = text("scale(", part, ", ", shortest(factor), ")");
  if (!std::isfinite(factor)) throw ConfigError(name, ": the factor must be finite");
  return pointwise(std::move(name), std::move(part), [factor](double value) { return value * factor; });
}

Transform divide(std::string part, double divisor) {
  std::string name = text("divide(", part, ", ", shortest(divisor), ")");
  if (!std::isfinite(divisor) || divisor == 0)
    throw ConfigError(name, ": the divisor must be finite and not 0");
  return pointwise(std::move(name), std::move(part), [divisor](double value) { return value / divisor; });
}

Transform add_channel(std::string part_name) {
  std::string name = text("add_channel(", part_name, ")");
  return map(std::move(name), [part_name = std::move(part_name)](Sample& sample, Rng&) {
    Part& part = sample[part_name];
    if (part.shape.size() != 2)
      throw DataError(place_of(sample, part), " has the shape ", detail::shape_text(part.shape),
                      "; (H, W) is wanted");
    part.shape.insert(part.shape.begin(), 1);
  });
}

Transform flip_vertical(std::string part_name, double probability) {
  std::string name = checked_probability("flip_vertical", part_name, probability);
  return map(std::move(name), [part_name = std::move(part_name), probability](Sample& sample, Rng& rng) {
    Part& part = sample[part_name];
    const Image image = image_of(sample, part);
    if (!rng.chance(probability)) return;
    for (int64_t plane = 0; plane < image.planes; ++plane) {
      std::byte* top = part.bytes.data() + plane * image.height * image.row_bytes;
      std::byte* bottom = top + (image.height - 1) * image.row_bytes;
      for (; top < bottom; top += image.row_bytes, bottom -= image.row_bytes)
        std::swap_ranges(top, top + image.row_bytes, bottom);
    }
  });
}

Transform flip_horizontal(std::string part_name, double probability) {
  std::string name = checked_probability("flip_horizontal", part_name, probability);
  return map(std::move(name), [part_name = std::move(part_name), probability](Sample& sample, Rng& rng) {
    Part& part = sample[part_name];
    const Image image = image_of(sample, part);
    if (!rng.chance(probability)) return;
    detail::visit_type(part.type, [&]<class Element>(Element) {
      auto* row = part.data<Element>();
      for (int64_t i = 0; i < image.planes * image.height; ++i, row += image.width)
        std::reverse(row, row + image.width);
    });
  });
}

Transform shift(std::string part_name, int64_t most) {
  std::string name = text("shift(", part_name, ", ", most, ")");
  if (most < 0) throw ConfigError(name, ": cannot shift by a negative number of pixels");
  return map(std::move(name), [part_name = std::move(part_name), most](Sample& sample, Rng& rng) {
    Part& part = sample[part_name];
    const Image image = image_of(sample, part);
    const int64_t down = rng.integer(-most, most), right = rng.integer(-most, most);
    const int64_t kept_columns = std::max<int64_t>(0, image.width - std::abs(right));
    const int64_t kept_rows = kept_columns ? std::max<int64_t>(0, image.height - std::abs(down)) : 0;
    const int64_t element = size_of(part.type);
    std::vector<std::byte>& made = scratch(part.bytes.size());
    std::fill(made.begin(), made.end(), std::byte{0});
    for (int64_t plane = 0; plane < image.planes; ++plane)
      for (int64_t row = 0; row < kept_rows; ++row) {
        const int64_t first = plane * image.height + row;
        const int64_t from = (first + std::max<int64_t>(0, -down)) * image.row_bytes;
        const int64_t to = (first + std::max<int64_t>(0, down)) * image.row_bytes;
        std::memcpy(made.data() + to + std::max<int64_t>(0, right) * element,
                    part.bytes.data() + from + std::max<int64_t>(0, -right) * element,
                    static_cast<size_t>(kept_columns * element));
      }
    part.bytes.swap(made);
  });
}

Transform one_hot(std::string part_name, int64_t classes) {
  std::string name = checked_classes("one_hot", part_name, classes);
  return map(std::move(name), [part_name = std::move(part_name), classes](Sample& sample, Rng&) {
    Part& part = sample[part_name];
    const auto label = static_cast<size_t>(class_of(sample, part, classes));
    part.type = sample.precision == DType::f64 ? DType::f64 : DType::f32;
    part.shape.assign(1, classes);
    part.bytes.assign(static_cast<size_t>(classes * size_of(part.type)), std::byte{0});
    if (part.type == DType::f64)
      part.data<double>()[label] = 1;
    else
      part.data<float>()[label] = 1;
  });
}

Transform class_index(std::string part_name, int64_t classes) {
  std::string name = checked_classes("class_index", part_name, classes);
  return map(std::move(name), [part_name = std::move(part_name), classes](Sample& sample, Rng&) {
    Part& part = sample[part_name];
    const int64_t label = class_of(sample, part, classes);
    part.type = DType::i64;
    part.shape.clear();
    part.bytes.resize(sizeof label);
    *part.data<int64_t>() = label;
  });
}

}  // namespace lab
