// Samples of one HDF5 file, opened.
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <iomanip>
#include <limits>
#include <sstream>

#include "data/elements.h"
#include "data/field_reader.h"
#include "data/geometry.h"
#include "data/opened_samples.h"
#include "lab/core/error.h"

namespace lab::detail {
namespace {

constexpr size_t cache_bytes = size_t{64} << 20;

std::string checksum_of_pieces(const InputFile& file) {
  constexpr uint64_t pieces = 64, piece_bytes = 4096;
  const bool whole = file.size() <= pieces * piece_bytes;
  std::vector<std::byte> bytes(whole ? file.size() : pieces * piece_bytes);
  if (whole) {
    file.read(0, bytes);
  } else {
    const uint64_t last = file.size() - piece_bytes, step = last / (pieces - 1);
    for (uint64_t i = 0; i < pieces; ++i)
      file.read(i + 1 < pieces ? i * step : last, std::span(bytes).subspan(i * piece_bytes, piece_bytes));
  }
  std::ostringstream out;
  out << std::hex << std::setw(16) << std::setfill('0') << XXH3_64bits(bytes.data(), bytes.size());
  return out.str();
}

std::string described(const FieldReader& field) {
  std::vector<std::string> sizes;
  for (const int64_t size : field.sample_shape()) sizes.push_back(text(size));
  return text(field.layout().name, ' ', name_of(field.layout().type), " (", join(sizes), ")\n");
}

// Without what HDF5 fills a text up with: zeros or, as Fortran does, spaces.
std::string text_at(const FieldReader& field, int64_t id) {
  std::string words(field.sample_bytes(), '\0');
  field.read(id, std::as_writable_bytes(std::span(words)));
  words.resize(std::min(words.size(), words.find('\0')));
  words.resize(words.find_last_not_of(' ') + 1);
  return words;
}

// Owns one file descriptor; its chunk cache is locked.
class FileSamples : public OpenedSamples {
 public:
  FileSamples(const FileNode& node, const FileLayout& layout);

  int64_t size() const override { return size_; }
  int64_t id(int64_t i) const override { return first_ + i; }
  int64_t ids() const override { return all_; }
  void read(int64_t i, Sample& sample, const Wanted& wanted) const override;
  std::string place(int64_t i) const override { return text("sample ", id(i), " of ", name()); }
  std::string identity() const override;

 private:
  void add_parts(const FileNode& node, const FileLayout& layout);
  void add_metadata(const FileNode& node, const FileLayout& layout);
  MetadataValue value_of(const FieldReader& field, int64_t id) const;

  InputFile file_;
  mutable ChunkCache cache_{cache_bytes};
  std::deque<FieldReader> parts_, metadata_;
  int64_t first_ = 0, size_ = 0, all_ = 0;
};

FileSamples::FileSamples(const FileNode& node, const FileLayout& layout)
    : OpenedSamples(node.name), file_(node.name), first_(node.first) {
  check_layout(layout);
  if (file_.size() < layout.file_bytes)
    throw DataError(name(), " has ", file_.size(), " bytes, it had ", layout.file_bytes,
                    " when its layout was read; leave data files alone during a run");
  add_parts(node, layout);
  add_metadata(node, layout);
  const FieldLayout& leader = parts_.front().layout();
  for (const auto* fields : {&parts_, &metadata_})
    for (const FieldReader& field : *fields)
      if (field.layout().samples() != leader.samples())
        throw DataError("'", leader.name, "' of ", name(), " has ", leader.samples(), " samples, '",
                        field.layout().name, "' has ", field.layout().samples(),
                        "; the fields of a dataset need the same first dimension");
  all_ = leader.samples();
  size_ = checked_stretch(name(), all_, first_, node.count);
}

void FileSamples::add_parts(const FileNode& node, const FileLayout& layout) {
  for (const std::string& field : node.fields)
    parts_.emplace_back(file_, cache_, parts_.size(), layout.field(field));
  for (const std::string& field : node.optional)
    if (std::ranges::find(layout.fields, field, &FieldLayout::name) != layout.fields.end())
      parts_.emplace_back(file_, cache_, parts_.size(), layout.field(field));
}

void FileSamples::add_metadata(const FileNode& node, const FileLayout& layout) {
  for (const std::string& wanted : node.metadata) {
    const FieldLayout& field = layout.metadata(wanted);
    const bool is_text = std::ranges::find(layout.texts, wanted, &FieldLayout::name) != layout.texts.end();
    if (field.shape.size() != 1 && !is_text)
      throw DataError("'", wanted, "' of ", name(), " has the shape ", shape_text(field.shape),
                      "; metadata is one number or text per sample: take it as a field, or write one each");
    metadata_.emplace_back(file_, cache_, parts_.size() + metadata_.size(), field);
  }
}

MetadataValue FileSamples::value_of(const FieldReader& field, int64_t id) const {
  if (!field.sample_shape().empty()) return text_at(field, id);
  alignas(8) std::array<std::byte, 8> bytes{};
  field.read(id, std::span(bytes).first(field.sample_bytes()));
  return visit_type(field.layout().type, [&]<class Element>(Element element) -> MetadataValue {
    std::memcpy(&element, bytes.data(), sizeof element);
    if constexpr (!std::is_integral_v<Element>)
      return static_cast<double>(element);
    else {
      if (std::cmp_greater(element, std::numeric_limits<int64_t>::max()))
        throw DataError("'", field.layout().name, "' of sample ", id, " of ", name(), " is ", element,
                        ", more than metadata can be; write numbers below 2^63");
      return static_cast<int64_t>(element);
    }
  });
}

void FileSamples::read(int64_t i, Sample& sample, const Wanted& wanted) const {
  sample.id = id(i);
  size_t used = 0;
  for (const FieldReader& field : parts_) {
    if (!wanted.part(field.layout().name)) continue;
    if (sample.parts.size() == used) sample.parts.emplace_back();
    Part& part = sample.parts[used++];
    part.name = field.layout().name;
    part.type = field.layout().type;
    part.shape = field.sample_shape();
    part.bytes.resize(field.sample_bytes());
    field.read(sample.id, part.bytes);
  }
  sample.parts.resize(used);
  sample.metadata.clear();
  for (const FieldReader& field : metadata_)
    if (wanted.metadata(field.layout().name))
      sample.metadata.set(field.layout().name, value_of(field, sample.id));
}

std::string FileSamples::identity() const {
  std::string out;
  for (const FieldReader& field : parts_) out += described(field);
  for (const FieldReader& field : metadata_) out += "metadata " + described(field);
  return text(out, size_, " samples from sample ", first_, " on\n", "a file of ", file_.size(),
              " bytes with checksum ", checksum_of_pieces(file_), '\n');
}

}  // namespace

FileNode::FileNode(std::string path, std::vector<std::string> fields_)
    : DatasetNode(std::move(path), -1), fields(std::move(fields_)) {
  if (name.empty()) throw ConfigError("the path of a data file is empty; name an HDF5 file");
  if (fields.empty())
    throw ConfigError("no field of ", name, " was asked for; name at least one, such as \"images\"");
  for (auto field = fields.begin(); field != fields.end(); ++field)
    if (std::find(fields.begin(), field, *field) != field)
      throw ConfigError("field '", *field, "' of ", name, " was asked for twice; name each field once");
}

Opened FileNode::open(Opening& opening) const {
  const auto layout = opening.layouts.find(name);
  if (layout == opening.layouts.end()) throw Bug("nobody has read the layout of ", name);
  return std::make_shared<FileSamples>(*this, layout->second);
}

void FileNode::add_files(std::vector<std::string>& paths) const { paths.push_back(name); }

}  // namespace lab::detail
