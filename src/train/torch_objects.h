#pragma once
// The objects that a file of torch.save may consist of: where they are kept while one is read, and the few
// functions that it may call to make them.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lab/train/torch_file.h"

namespace lab::detail {

// Owns every value of one file. Values are made by it alone, and point at each other. All functions throw
// DataError that says what is wrong, without the place.
class TorchObjects {
 public:
  using Bytes = std::span<const std::byte>;
  using Kind = TorchValue::Kind;
  // The bytes of the entry `data/KEY`; they outlive this. Throws DataError where there is none.
  using Storages = std::function<Bytes(const std::string& key)>;

  // `size`: of the whole file, which bounds what is copied.
  TorchObjects(Storages storages, uint64_t size)
      : storages_(std::move(storages)), copies_left_(4 * size + 65536) {}

  template <class Content>
  const TorchValue* make(Kind kind, Content content) {
    return &values_.emplace_back(TorchValue{kind, std::move(content)});
  }
  // The items of a list, dict or set that is still being filled. (All values are owned here, and not const.)
  static TorchValue::Items& filling(const TorchValue& value) {
    return std::get<TorchValue::Items>(const_cast<TorchValue&>(value).content);
  }
  const TorchValue* none() const { return &none_; }
  const TorchValue* truth(bool value) const { return value ? &true_ : &false_; }

  // A type or function by its name. Refuses all but those that it knows.
  const TorchValue* global(const std::string& module, const std::string& name);
  // What torch says stands for a storage: ("storage", type, key, device, elements).
  const TorchValue* storage(const TorchValue& id);
  // The value that `function`, a global, makes of a tuple.
  const TorchValue* call(const TorchValue& function, const TorchValue& arguments);

 private:
  struct Storage {
    Bytes bytes;
    int64_t element_size = 1;
    std::string_view type;  // "" for bytes of any type
  };
  friend struct TorchCalls;

  void charge(uint64_t bytes);  // for what is about to be copied
  const TorchValue* tensor(const TorchValue& arguments, bool typed);
  const std::byte* row_major(const Storage& storage, const TensorView& tensor, int64_t offset,
                             std::vector<int64_t> strides);

  Storages storages_;
  uint64_t copies_left_;
  std::deque<TorchValue> values_;
  std::deque<std::vector<std::byte>> copies_;
  std::deque<Storage> opened_;
  TorchValue none_{}, true_{Kind::boolean, true}, false_{Kind::boolean, false};
};

// "a list", for messages.
std::string_view described(TorchValue::Kind kind);

}  // namespace lab::detail
