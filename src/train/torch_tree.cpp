#include "train/torch_tree.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "lab/core/error.h"
#include "train/torch_objects.h"

namespace lab::detail {
namespace {

using Kind = TorchValue::Kind;

constexpr int most_levels = 64;
constexpr uint64_t most_places_per_byte = 16, free_places = 4096;

class TreeCheck {
 public:
  explicit TreeCheck(uint64_t program_bytes)
      : most_places_(program_bytes * most_places_per_byte + free_places) {}

  // Levels from this value down, itself included.
  struct Extent {
    int levels = 1;
    uint64_t places = 1;
    bool open = false;
  };

  Extent visit(const TorchValue& value, int above) {
    if (value.kind == Kind::global || value.kind == Kind::storage)
      throw DataError("it holds ", described(value.kind), " by itself; save tensors and plain values only");
    if (!std::holds_alternative<TorchValue::Items>(value.content)) return {};
    if (const auto known = known_.find(&value); known != known_.end()) {
      if (known->second.open)
        throw DataError(described(value.kind), " contains itself; no checkpoint does: save it without that");
      if (above + known->second.levels > most_levels) refuse_depth();
      return known->second;
    }
    if (above >= most_levels) refuse_depth();
    known_[&value].open = true;
    if (value.kind == Kind::dict) check_keys(value);
    Extent out;
    for (const TorchValue* item : value.items()) {
      const Extent inner = visit(*item, above + 1);
      out.levels = std::max(out.levels, inner.levels + 1);
      out.places += inner.places;
      if (out.places > most_places_)
        throw DataError("it contains the same parts so often that it would take ", out.places,
                        " values to write it out; save it without such sharing");
    }
    return known_[&value] = out;
  }

 private:
  [[noreturn]] static void refuse_depth() {
    throw DataError("it is nested deeper than ", most_levels,
                    " levels; save its parts, or the state dict alone");
  }

  static void check_keys(const TorchValue& dict) {
    std::unordered_set<std::string_view> texts;
    std::unordered_set<int64_t> numbers;
    for (size_t i = 0; i < dict.items().size(); i += 2) {
      const TorchValue& key = *dict.items()[i];
      const bool fresh = key.kind == Kind::text      ? texts.insert(key.text()).second
                         : key.kind == Kind::integer ? numbers.insert(key.integer()).second
                                                     : true;
      if (!fresh)
        throw DataError("a dict has the key ",
                        key.kind == Kind::text ? quoted(key.text().substr(0, 100)) : text(key.integer()),
                        " twice; copy the file again, or take another one");
    }
  }

  const uint64_t most_places_;
  std::unordered_map<const TorchValue*, Extent> known_;
};

}  // namespace

void check_tree(const TorchValue& root, uint64_t program_bytes) { TreeCheck(program_bytes).visit(root, 0); }

bool is_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto first = static_cast<unsigned char>(text[i]);
    const size_t more = first < 0x80   ? 0
                        : first < 0xC2 ? 9
                        : first < 0xE0 ? 1
                        : first < 0xF0 ? 2
                        : first < 0xF5 ? 3
                                       : 9;
    if (more == 9 || text.size() - i <= more) return false;
    uint32_t letter = more == 0 ? first : first & (0x3Fu >> more);
    for (size_t k = 1; k <= more; ++k) {
      const auto byte = static_cast<unsigned char>(text[i + k]);
      if ((byte & 0xC0) != 0x80) return false;
      letter = (letter << 6) | (byte & 0x3Fu);
    }
    const bool too_long = (more == 2 && letter < 0x800) || (more == 3 && letter < 0x10000);
    if (too_long || letter > 0x10FFFF || (letter >= 0xD800 && letter < 0xE000)) return false;
    i += more + 1;
  }
  return true;
}

}  // namespace lab::detail
