#include "train/torch_places.h"

#include <algorithm>
#include <cctype>

#include "lab/core/error.h"
#include "train/torch_objects.h"

namespace lab::detail {
namespace {

using Kind = TorchValue::Kind;

constexpr size_t most_shown = 100;                      // of a text
constexpr size_t most_inline = 12;                      // values of a container on one line
constexpr size_t most_place_bytes = size_t{256} << 20;  // of all places together

bool is_container(const TorchValue& value) {
  return std::holds_alternative<TorchValue::Items>(value.content);
}

// Containers that fit a line.
bool is_short(const TorchValue& value) {
  return value.items().size() <= most_inline &&
         std::none_of(value.items().begin(), value.items().end(),
                      [](auto* item) {
                        return item->kind == Kind::tensor || (is_container(*item) && !item->items().empty());
                      }) &&
         (value.kind != Kind::dict || value.items().empty());
}

std::string shown(const std::string& value) {
  if (value.size() <= most_shown) return quoted(value);
  size_t end = most_shown;
  while (end > 0 && (static_cast<unsigned char>(value[end]) & 0xC0) == 0x80) --end;  // not within a letter
  return quoted(value.substr(0, end)) + "...";
}

// The step from a dict to its value: ".name", or "[0]" for what is no plain word.
std::string step(const TorchValue& key) {
  const auto plain = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || c == '.';
  };
  if (key.kind == Kind::text && !key.text().empty() && key.text().size() <= most_shown &&
      std::all_of(key.text().begin(), key.text().end(), plain))
    return '.' + key.text();
  return '[' + in_words(key) + ']';
}

class Visit {
 public:
  explicit Visit(const std::function<void(const std::string&, const TorchValue&)>& seen) : seen_(seen) {}

  void operator()(const TorchValue& value) {
    if (!is_container(value) || is_short(value)) {
      left_ -= std::min(left_, place_.size() + 1);
      if (left_ == 0) throw DataError("the names in it are absurdly long; save the state dict alone");
      seen_(place_.starts_with('.') ? place_.substr(1) : place_, value);
      return;
    }
    const auto& items = value.items();
    const bool keyed = value.kind == Kind::dict;
    for (size_t i = 0; i < items.size(); i += keyed ? 2 : 1) {
      const size_t length = place_.size();
      place_ += keyed ? step(*items[i]) : lab::text('[', i, ']');
      (*this)(*items[keyed ? i + 1 : i]);
      place_.resize(length);
    }
  }

 private:
  const std::function<void(const std::string&, const TorchValue&)>& seen_;
  std::string place_;
  size_t left_ = most_place_bytes;
};

std::string listed(const TorchValue& value, char open, char close) {
  std::string out(1, open);
  const auto& items = value.items();
  for (size_t i = 0; i < std::min(items.size(), most_inline); ++i) {
    const bool deeper = is_container(*items[i]) && !items[i]->items().empty();
    out +=
        lab::text(i == 0 ? "" : ", ", deeper ? std::string(described(items[i]->kind)) : in_words(*items[i]));
  }
  if (items.size() > most_inline) out += lab::text(", ... ", items.size(), " in all");
  return out + close;
}

}  // namespace

void visit_places(const TorchValue& root,
                  const std::function<void(const std::string&, const TorchValue&)>& seen) {
  Visit{seen}(root);
}

std::string in_words(const TorchValue& value) {
  switch (value.kind) {
    case Kind::none:
      return "None";
    case Kind::boolean:
      return value.boolean() ? "True" : "False";
    case Kind::integer:
      return std::to_string(value.integer());
    case Kind::real:
      return shortest(value.real());
    case Kind::text:
      return shown(value.text());
    case Kind::bytes:
      return text(value.text().size(), " bytes");
    case Kind::list:
      return listed(value, '[', ']');
    case Kind::tuple:
      return listed(value, '(', ')');
    case Kind::set:
    case Kind::dict:
      return listed(value, '{', '}');
    case Kind::dtype:
    case Kind::device:
      return value.text();
    case Kind::tensor:
    case Kind::global:
    case Kind::storage:
      return std::string(described(value.kind));
  }
  return "";
}

}  // namespace lab::detail
