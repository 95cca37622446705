#include "lab/data/sample.h"

#include "data/elements.h"
#include "data/geometry.h"
#include "lab/core/error.h"

namespace lab {
namespace {

std::string what_there_is(std::string_view name, const std::vector<std::string>& names) {
  const std::string near = nearest_name(name, names);
  return text(near.empty() ? "" : text("; did you mean '", near, "'?"), "; it has ",
              names.empty() ? "none" : join(names));
}

}  // namespace

int64_t Part::elements() const {
  int64_t product = 1;
  for (const int64_t extent : shape) product *= extent;
  return product;
}

double Part::number() const {
  if (elements() != 1)
    throw DataError("'", name, "' has the shape ", detail::shape_text(shape), "; one number is wanted");
  return detail::visit_type(type,
                            [&]<class Element>(Element) { return static_cast<double>(*data<Element>()); });
}

std::string text_of(const MetadataValue& value) {
  if (const auto* whole = std::get_if<int64_t>(&value)) return std::to_string(*whole);
  if (const auto* number = std::get_if<double>(&value)) return shortest(*number);
  return std::get<std::string>(value);
}

void Metadata::set(std::string_view name, MetadataValue value) {
  for (Entry& entry : entries_)
    if (entry.first == name) {
      entry.second = std::move(value);
      return;
    }
  entries_.emplace_back(name, std::move(value));
}

bool Metadata::has(std::string_view name) const {
  return std::ranges::find(entries_, name, &Entry::first) != entries_.end();
}

const MetadataValue& Metadata::operator[](std::string_view name) const {
  std::vector<std::string> names;
  for (const Entry& entry : entries_) {
    if (entry.first == name) return entry.second;
    names.push_back(entry.first);
  }
  throw ConfigError("a sample has no metadata '", name, "'", what_there_is(name, names));
}

bool Sample::has(std::string_view name) const {
  return std::ranges::find(parts, name, &Part::name) != parts.end();
}

const Part& Sample::operator[](std::string_view name) const {
  std::vector<std::string> names;
  for (const Part& part : parts) {
    if (part.name == name) return part;
    names.push_back(part.name);
  }
  throw ConfigError("a sample has no part '", name, "'", what_there_is(name, names));
}

Part& Sample::operator[](std::string_view name) {
  return const_cast<Part&>(std::as_const(*this)[name]);  // NOLINT: the sample itself can be changed
}

std::byte* Sample::reset(std::string_view name, DType type, std::vector<int64_t> shape, size_t values) {
  const auto found = std::ranges::find(parts, name, &Part::name);
  Part& part = found != parts.end() ? *found : parts.emplace_back(Part{std::string(name), type, {}, {}});
  part.type = type;
  part.shape = std::move(shape);
  if (std::ranges::any_of(part.shape, [](int64_t extent) { return extent < 0; }) ||
      part.elements() != static_cast<int64_t>(values))
    throw DataError("'", name, "' of sample ", id, " is given ", values, " values for the shape ",
                    detail::shape_text(part.shape), "; give as many as it has");
  part.bytes.resize(values * static_cast<size_t>(size_of(type)));
  return part.bytes.data();
}

}  // namespace lab
