#include "lab/data/inspection.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <type_traits>
#include <utility>

#include "data/chunk_decoder.h"
#include "data/elements.h"
#include "data/geometry.h"
#include "lab/core/error.h"
#include "lab/core/formatted.h"
#include "lab/data/source.h"

namespace lab {
namespace {

constexpr size_t line_width = 80;
constexpr size_t most_classes = 32;  // more different values than that are no labels

Source open_field(const FileLayout& layout, const std::string& name) {
  return {hdf5(layout.path, {name}), layout};
}

struct Values {
  double least = std::numeric_limits<double>::infinity(), most = -least, sum = 0;
  int64_t count = 0, not_finite = 0;
  std::map<int64_t, int64_t> histogram;  // of an integer field with one value per sample, while it is short

  void add(const Part& part) {
    detail::visit_type(part.type, [&]<class Element>(Element) {
      for (int64_t i = 0; i < part.elements(); ++i) add(static_cast<double>(part.data<Element>()[i]));
      if constexpr (std::is_integral_v<Element>)
        if (part.elements() == 1 && histogram.size() <= most_classes)
          ++histogram[static_cast<int64_t>(*part.data<Element>())];
    });
  }
  void add(double value) {
    if (!std::isfinite(value)) {
      ++not_finite;
      return;
    }
    least = std::min(least, value);
    most = std::max(most, value);
    sum += value;
    ++count;
  }
};

std::string storage(const FieldLayout& field) {
  if (field.chunk_shape.empty()) return field.big_endian ? "contiguous, big-endian" : "contiguous";
  std::string out = text("chunks of ", detail::shape_text(field.chunk_shape));
  for (const Filter filter : field.filters)
    out += filter == Filter::shuffle ? ", shuffle" : filter == Filter::deflate ? ", deflate" : ", fletcher32";
  return out + (field.big_endian ? ", big-endian" : "");
}

// Entries one after the other, on as many indented lines as they need.
std::string wrapped(const std::vector<std::string>& entries) {
  std::string out, line;
  for (const std::string& entry : entries) {
    if (line.size() + 2 + entry.size() > line_width) out += std::exchange(line, "") + "\n";
    line += (line.empty() ? "    " : "  ") + entry;
  }
  return line.empty() ? out : out + line + "\n";
}

std::string describe_values(const FileLayout& layout, const FieldLayout& field) {
  if (field.samples() == 0) return "    no samples\n";
  const Source source = open_field(layout, field.name);
  Values values;
  Sample sample;
  for (int64_t i = 0; i < source.size(); ++i) {
    source.read(i, sample);
    values.add(sample.parts.front());
  }
  std::string out;
  if (values.count)
    out = text("    from ", shortest(values.least), " to ", shortest(values.most), ", mean ",
               formatted("%.6g", values.sum / static_cast<double>(values.count)), "\n");
  if (values.not_finite) out += text("    ", values.not_finite, " values are NaN or infinite\n");
  if (values.histogram.size() > most_classes) return out;
  std::vector<std::string> entries;
  for (const auto& [label, count] : values.histogram) entries.push_back(text(label, ": ", count));
  return out + wrapped(entries);
}

bool is_picture(const FieldLayout& field) {
  const auto& shape = field.shape;
  return field.type == DType::u8 && (shape.size() == 3 || (shape.size() == 4 && shape[1] == 1));
}

std::string draw(const Part& part) {
  constexpr std::string_view shades = " .:-=+*#%@";
  const auto height = static_cast<size_t>(part.shape[part.shape.size() - 2]);
  const auto width = static_cast<size_t>(part.shape.back());
  const size_t step = (width + line_width - 1) / line_width;  // wide images: every step-th pixel
  const size_t repeat =
      width * 2 <= line_width && step == 1 ? 2 : 1;  // letters are about twice as high as wide
  std::string out;
  for (size_t y = 0; y < height; y += repeat == 2 ? 1 : 2 * step) {
    std::string line;
    for (size_t x = 0; x < width; x += step)
      line.append(repeat, shades[part.data<uint8_t>()[y * width + x] * shades.size() / 256]);
    out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return out;
}

void find_damaged_chunks(const FileLayout& layout, const FieldLayout& field,
                         std::vector<std::string>& problems) {
  const detail::InputFile file(layout.path);
  for (size_t i = 0; i < field.chunks.size(); ++i) try {
      detail::read_chunk(file, field, i);
    } catch (const DataError& problem) {
      problems.emplace_back(problem.what());
    }
}

void find_not_finite(const FileLayout& layout, const FieldLayout& field, std::vector<std::string>& problems) {
  const Source source = open_field(layout, field.name);
  std::vector<int64_t> ids;
  Sample sample;
  for (int64_t i = 0; i < source.size(); ++i) try {
      source.read(i, sample);
      Values values;
      values.add(sample.parts.front());
      if (values.not_finite) ids.push_back(i);
    } catch (const DataError&) {  // a damaged chunk, which has been reported
      if (field.chunk_shape.empty()) throw;
    }
  if (!ids.empty())
    problems.push_back(text("NaN or infinity in '", field.name, "' (samples ", short_list(ids), ") of ",
                            layout.path, "; correct or leave out these samples"));
}

// Reads one contiguous field from end to end.
void read_all(const FileLayout& layout, const FieldLayout& field) {
  const Source source = open_field(layout, field.name);
  Sample sample;
  for (int64_t i = 0; i < source.size(); ++i) source.read(i, sample);
}

}  // namespace

std::string describe(const FileLayout& layout) {
  std::string out = text(layout.path, "  ", byte_size(layout.file_bytes), "\n");
  if (layout.fields.empty()) out += "  no datasets of numbers in its root group\n";
  for (const FieldLayout& field : layout.fields)
    out += text("  ", field.name, "  ", name_of(field.type), "  ", detail::shape_text(field.shape), "  ",
                storage(field), "\n", describe_values(layout, field));
  for (const FieldLayout& field : layout.texts)
    out += text("  ", field.name, "  texts of ", field.shape[1], " bytes  (", field.samples(), ")  ",
                field.chunk_shape.empty() ? "contiguous" : "in chunks", ", for metadata\n");
  return out;
}

std::string picture(const FileLayout& layout, int64_t index) {
  const auto images = std::ranges::find_if(layout.fields, is_picture);
  if (images == layout.fields.end())
    throw DataError(layout.path, " has no field of u8 images (N, H, W) to show");
  if (index < 0 || index >= images->samples())
    throw DataError("there is no sample ", index, " in ", layout.path, "; show one from 0 to ",
                    images->samples() - 1);
  std::string title = text("sample ", index);
  Sample sample;
  for (const FieldLayout& field : layout.fields)
    if (field.shape.size() == 1 && index < field.samples()) {
      open_field(layout, field.name).read(index, sample);
      const Part& part = sample.parts.front();
      title += detail::visit_type(part.type, [&]<class Element>(Element) {
        return text("  ", field.name, " ", shortest(static_cast<double>(*part.data<Element>())));
      });
    }
  open_field(layout, images->name).read(index, sample);
  return title + "\n" + draw(sample.parts.front());
}

std::vector<std::string> problems_in(const FileLayout& layout) {
  std::vector<std::string> problems;
  if (layout.fields.empty())
    problems.push_back(
        text(layout.path, " has no datasets of numbers in its root group; write at least one"));
  for (const FieldLayout& field : layout.fields) {
    const FieldLayout& leader = layout.fields.front();
    if (field.samples() != leader.samples())
      problems.push_back(text("'", leader.name, "' of ", layout.path, " has ", leader.samples(),
                              " samples, '", field.name, "' has ", field.samples(),
                              "; write the same number of both"));
    if (field.samples() == 0) {
      problems.push_back(text("'", field.name, "' of ", layout.path, " has no samples; write some"));
      continue;
    }
    find_damaged_chunks(layout, field, problems);
    if (is_floating(field.type))
      find_not_finite(layout, field, problems);
    else if (field.chunk_shape.empty())
      read_all(layout, field);
  }
  return problems;
}

}  // namespace lab
