#include <zlib.h>

#include <algorithm>
#include <bit>
#include <deque>
#include <limits>
#include <set>
#include <type_traits>

#include "lab/core/error.h"
#include "lab/train/torch_file.h"
#include "train/partial_file.h"
#include "train/tensor_bytes.h"
#include "train/torch_opcodes.h"
#include "train/torch_tree.h"
#include "train/torch_types.h"

namespace lab {
namespace {

using detail::Op;
using Bytes = std::span<const std::byte>;

using detail::bytes_of;

// Numbers and letters one behind the other, little-endian.
class Bytestring {
 public:
  template <class Number>
  Bytestring& number(Number value) {
    static_assert(std::is_integral_v<Number>);
    out_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Bytestring& letters(std::string_view value) {
    out_ += value;
    return *this;
  }
  Bytestring& op(Op value) { return number(static_cast<uint8_t>(value)); }
  const std::string& text() const { return out_; }

 private:
  std::string out_;
};

// The program for Python's pickle machine, protocol 2, that makes the objects.
class Program {
 public:
  Program() { out_.op(Op::PROTO).number(uint8_t{2}); }

  std::string finished() { return out_.op(Op::STOP).text(); }

  void text(const std::string& value) {
    if (!detail::is_utf8(value) || value.size() > std::numeric_limits<uint32_t>::max())
      throw Bug("a name or a text for a torch file is no UTF-8, or too long: ", quoted(value.substr(0, 100)));
    out_.op(Op::BINUNICODE).number(static_cast<uint32_t>(value.size())).letters(value);
  }
  void integer(int64_t value) { out_.op(Op::LONG1).number(uint8_t{8}).number(value); }
  void value(bool value) { out_.op(value ? Op::NEWTRUE : Op::NEWFALSE); }
  void value(int64_t value) { integer(value); }
  void value(double value) {
    out_.op(Op::BINFLOAT).number(__builtin_bswap64(std::bit_cast<uint64_t>(value)));
  }
  void value(const std::string& value) { text(value); }

  // An OrderedDict of the tensors; tensor i lies in the entry data/i.
  void state_dict(std::span<const TensorView> tensors) {
    ordered_dict();
    out_.op(Op::MARK);
    for (size_t i = 0; i < tensors.size(); ++i) {
      text(tensors[i].name);
      tensor(tensors[i], i);
    }
    out_.op(Op::SETITEMS);
  }

  void dict_with(std::span<const TensorView> tensors, const PlainValues& values) {
    out_.op(Op::EMPTY_DICT).op(Op::MARK);
    text("state_dict");
    state_dict(tensors);
    for (const auto& [name, content] : values) {
      text(name);
      std::visit([&](const auto& plain) { value(plain); }, content);
    }
    out_.op(Op::SETITEMS);
  }

 private:
  void global(std::string_view module, std::string_view name) {
    out_.op(Op::GLOBAL).letters(module).letters("\n").letters(name).letters("\n");
  }

  void ordered_dict() {
    global("collections", "OrderedDict");
    out_.op(Op::EMPTY_TUPLE).op(Op::REDUCE);
  }

  void tuple(const std::vector<int64_t>& values) {
    out_.op(Op::MARK);
    for (const int64_t value : values) integer(value);
    out_.op(Op::TUPLE);
  }

  void tensor(const TensorView& tensor, size_t entry) {
    const std::string_view storage = detail::storage_class(tensor.type);
    const bool typed = !storage.empty();
    global("torch._utils", typed ? "_rebuild_tensor_v2" : "_rebuild_tensor_v3");
    out_.op(Op::MARK).op(Op::MARK);
    text("storage");
    global(typed ? "torch" : "torch.storage", typed ? storage : "UntypedStorage");
    text(std::to_string(entry));
    text("cpu");
    const auto bytes = static_cast<int64_t>(bytes_of(tensor).size());
    integer(typed ? bytes / size_of(tensor.type) : bytes);
    out_.op(Op::TUPLE).op(Op::BINPERSID);
    integer(0);
    tuple(tensor.shape);
    tuple(row_major_strides(tensor.shape));
    out_.op(Op::NEWFALSE);  // needs no gradient, as in a state dict
    ordered_dict();
    if (!typed) global("torch", detail::torch_name(tensor.type).substr(std::string_view("torch.").size()));
    out_.op(Op::TUPLE).op(Op::REDUCE);
  }

  static std::vector<int64_t> row_major_strides(const std::vector<int64_t>& shape) {
    std::vector<int64_t> out(shape.size());
    int64_t step = 1;
    for (size_t i = shape.size(); i-- > 0;) {
      out[i] = step;
      step *= std::max<int64_t>(shape[i], 1);
    }
    return out;
  }

  Bytestring out_;
};

// A zip archive of stored entries, laid out in memory: headers of its own, bytes of others. Always with
// 64-bit numbers, so that there is one way for files of any size.
class Archive {
 public:
  struct Piece {
    uint64_t offset = 0;
    Bytes bytes;
    std::string what;
  };

  void add(const std::string& name, Bytes bytes, const std::string& what) {
    const std::string full = "archive/" + name;
    const uint64_t header_at = end_, size = bytes.size();
    const bool large = header_at >= all_ones || size >= all_ones;  // then 64-bit numbers follow
    const auto short_number = [&](uint64_t value) { return large ? all_ones : static_cast<uint32_t>(value); };
    Bytestring fields;
    fields.number(uint16_t{45}).number(uint16_t{0}).number(uint16_t{0}).number(january_1980);
    fields.number(checksum_of(bytes)).number(short_number(size)).number(short_number(size));
    fields.number(static_cast<uint16_t>(full.size()));
    Bytestring sizes, sizes_and_place;
    if (large) {
      sizes.number(uint16_t{1}).number(uint16_t{16}).number(size).number(size);
      sizes_and_place.number(uint16_t{1}).number(uint16_t{24}).number(size).number(size).number(header_at);
    }
    const uint64_t unpadded = header_at + 30 + full.size() + sizes.text().size() + 4;
    const std::string padding((alignment - unpadded % alignment) % alignment, 'Z');
    sizes.letters("FB").number(static_cast<uint16_t>(padding.size())).letters(padding);  // as PyTorch aligns
    append(Bytestring()
               .number(uint32_t{0x04034b50})
               .letters(fields.text())
               .number(static_cast<uint16_t>(sizes.text().size()))
               .letters(full + sizes.text())
               .text(),
           what);
    append(bytes, what);
    directory_.number(uint32_t{0x02014b50}).number(uint16_t{45}).letters(fields.text());
    directory_.number(static_cast<uint16_t>(sizes_and_place.text().size()));
    directory_.letters(std::string(10, '\0'))
        .number(short_number(header_at));  // no comment, first part, no attributes
    directory_.letters(full + sizes_and_place.text());
    ++entries_;
  }

  void add(const std::string& name, std::string content) {
    texts_.push_back(std::move(content));
    add(name, std::as_bytes(std::span(texts_.back())), "the entry " + name);
  }

  const std::vector<Piece>& finished() {
    const uint64_t begin = end_, bytes = directory_.text().size();
    Bytestring end;
    end.number(uint32_t{0x06064b50}).number(uint64_t{44}).number(uint16_t{45}).number(uint16_t{45});
    end.number(uint32_t{0}).number(uint32_t{0}).number(entries_).number(entries_).number(bytes).number(begin);
    end.number(uint32_t{0x07064b50}).number(uint32_t{0}).number(begin + bytes).number(uint32_t{1});
    const auto last_entries = static_cast<uint16_t>(std::min<uint64_t>(entries_, 0xFFFF));
    end.number(uint32_t{0x06054b50}).number(uint32_t{0}).number(last_entries).number(last_entries);
    end.number(static_cast<uint32_t>(std::min<uint64_t>(bytes, all_ones)));
    end.number(static_cast<uint32_t>(std::min<uint64_t>(begin, all_ones))).number(uint16_t{0});
    append(directory_.text() + end.text(), "the list of entries");
    return pieces_;
  }

 private:
  static constexpr uint32_t all_ones = 0xFFFFFFFF,
                            january_1980 = 0x00210000;  // no clock: equal input, equal bytes
  static constexpr uint64_t alignment = 64;

  static uint32_t checksum_of(Bytes bytes) {
    return static_cast<uint32_t>(crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
  }

  void append(Bytes bytes, const std::string& what) {
    pieces_.push_back({end_, bytes, what});
    end_ += bytes.size();
  }
  void append(std::string content, const std::string& what) {
    texts_.push_back(std::move(content));
    append(std::as_bytes(std::span(texts_.back())), what);
  }

  std::deque<std::string> texts_;
  std::vector<Piece> pieces_;
  Bytestring directory_;
  uint64_t end_ = 0, entries_ = 0;
};

void check_names(std::span<const TensorView> tensors, const PlainValues& values) {
  std::set<std::string_view> names, value_names = {"state_dict"};
  for (const auto& tensor : tensors)
    if (!names.insert(tensor.name).second)
      throw Bug("a state dict cannot hold two tensors with the name ", quoted(tensor.name));
  for (const auto& [name, value] : values)
    if (!value_names.insert(name).second)
      throw Bug("a torch file cannot hold two values with the name ", quoted(name));
}

}  // namespace

void write_torch_file(const std::string& path, std::span<const TensorView> tensors,
                      const PlainValues& values) {
  check_names(tensors, values);
  Program program;
  if (values.empty())
    program.state_dict(tensors);
  else
    program.dict_with(tensors, values);
  Archive archive;
  archive.add("data.pkl", program.finished());
  archive.add(".format_version", "1");
  archive.add(".storage_alignment", "64");
  archive.add("byteorder", "little");
  for (size_t i = 0; i < tensors.size(); ++i)
    archive.add("data/" + std::to_string(i), bytes_of(tensors[i]), "tensor " + quoted(tensors[i].name));
  archive.add("version", "3\n");
  const auto& pieces = archive.finished();
  detail::PartialFile file(path);
  for (const auto& piece : pieces) file.write(piece.bytes);
  file.sync();
  for (const auto& piece : pieces) file.compare(piece.offset, piece.bytes, piece.what);
  file.put_in_place();
}

}  // namespace lab
