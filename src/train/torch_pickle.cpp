#include "train/torch_pickle.h"

#include <bit>
#include <cstring>
#include <unordered_map>

#include "lab/core/error.h"
#include "train/torch_opcodes.h"
#include "train/torch_tree.h"

namespace lab::detail {
namespace {

using Kind = TorchValue::Kind;
using Items = TorchValue::Items;

template <class... Parts>
[[noreturn]] void damaged(const Parts&... parts) {
  throw DataError(text(parts...), "; copy the file again, or take another one");
}

class Machine {
 public:
  Machine(std::span<const std::byte> program, TorchObjects& objects) : program_(program), objects_(objects) {}

  const TorchValue* run() {
    try {
      if (static_cast<Op>(peek()) != Op::PROTO) damaged("it does not begin with a protocol");
      while (!result_) {
        op_at_ = next_;
        op_ = static_cast<Op>(number<uint8_t>());
        if (!(push_number() || push_text() || fill() || gather() || remember() || make_object()))
          damaged("it is none of the opcodes that torch.save writes");
      }
      if (next_ != program_.size()) damaged(program_.size() - next_, " bytes follow behind its end");
      check_tree(*result_, program_.size());
      return result_;
    } catch (const DataError& error) {
      throw DataError("at byte ", op_at_, " of data.pkl, opcode ", opcode_name(op_), ": ", error.what());
    }
  }

 private:
  // Reading the program.
  uint8_t peek() const { return program_.empty() ? 0 : static_cast<uint8_t>(program_.front()); }

  std::span<const std::byte> take(uint64_t bytes) {
    if (bytes > program_.size() - next_)
      damaged("it asks for ", bytes, " bytes, ", program_.size() - next_, " are left");
    const auto out = program_.subspan(next_, bytes);
    next_ += bytes;
    return out;
  }

  template <class Number>
  Number number() {
    Number out;
    std::memcpy(&out, take(sizeof out).data(), sizeof out);
    return out;
  }

  std::string take_text(uint64_t bytes) {
    const auto taken = take(bytes);
    std::string out(reinterpret_cast<const char*>(taken.data()), taken.size());
    if (!is_utf8(out)) damaged("a text is no UTF-8");
    return out;
  }

  std::string take_line() {
    std::string out;
    for (char c; (c = static_cast<char>(number<uint8_t>())) != '\n';) out += c;
    if (!is_utf8(out)) damaged("a name is no UTF-8");
    return out;
  }

  int64_t long_integer(uint64_t bytes) {
    const auto digits = take(bytes);
    if (bytes > sizeof(int64_t))
      throw DataError("a whole number of ", bytes,
                      " bytes is too large for lab, which knows 64 bits; save the file ", "without it");
    const bool negative = bytes > 0 && (digits.back() & std::byte{0x80}) != std::byte{0};
    int64_t out = negative ? -1 : 0;
    std::memcpy(&out, digits.data(), bytes);
    return out;
  }

  // The stack: values, and the heights at which marks lie.
  bool push(const TorchValue* value) {
    stack_.push_back(value);
    return true;
  }

  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }

  const TorchValue* pop() {
    if (stack_.size() <= floor()) damaged("the stack is empty");
    const TorchValue* out = stack_.back();
    stack_.pop_back();
    return out;
  }

  const TorchValue& top() const {
    if (stack_.size() <= floor()) damaged("the stack is empty");
    return *stack_.back();
  }

  Items pop_to_mark() {
    if (marks_.empty()) damaged("there is no mark on the stack");
    Items out(stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back()), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return out;
  }

  Items pop_several(size_t count) {
    Items out(count);
    for (size_t i = count; i-- > 0;) out[i] = pop();
    return out;
  }

  // The opcodes by what they do. Each returns whether this one was among them.
  bool push_number() {
    switch (op_) {
      case Op::NONE:
        return push(objects_.none());
      case Op::NEWTRUE:
        return push(objects_.truth(true));
      case Op::NEWFALSE:
        return push(objects_.truth(false));
      case Op::BININT:
        return push_integer(number<int32_t>());
      case Op::BININT1:
        return push_integer(number<uint8_t>());
      case Op::BININT2:
        return push_integer(number<uint16_t>());
      case Op::LONG1:
        return push_integer(long_integer(number<uint8_t>()));
      case Op::LONG4:
        return push_integer(long_integer(number<uint32_t>()));
      case Op::BINFLOAT:
        return push(objects_.make(Kind::real, std::bit_cast<double>(__builtin_bswap64(number<uint64_t>()))));
      default:
        return false;
    }
  }

  bool push_integer(int64_t value) { return push(objects_.make(Kind::integer, value)); }

  bool push_text() {
    const auto letters = [&](uint64_t bytes) { return push(objects_.make(Kind::text, take_text(bytes))); };
    const auto bytes = [&](uint64_t count) {
      const auto taken = take(count);
      return push(
          objects_.make(Kind::bytes, std::string(reinterpret_cast<const char*>(taken.data()), taken.size())));
    };
    switch (op_) {
      case Op::SHORT_BINUNICODE:
        return letters(number<uint8_t>());
      case Op::BINUNICODE:
        return letters(number<uint32_t>());
      case Op::BINUNICODE8:
        return letters(number<uint64_t>());
      case Op::SHORT_BINBYTES:
        return bytes(number<uint8_t>());
      case Op::BINBYTES:
        return bytes(number<uint32_t>());
      case Op::BINBYTES8:
      case Op::BYTEARRAY8:
        return bytes(number<uint64_t>());
      default:
        return false;
    }
  }

  // Puts items into a container that lies below them.
  bool fill() {
    switch (op_) {
      case Op::APPEND:
        return put(Kind::list, pop_several(1));
      case Op::APPENDS:
        return put(Kind::list, pop_to_mark());
      case Op::SETITEM:
        return put(Kind::dict, pop_several(2));
      case Op::SETITEMS:
        return put(Kind::dict, pop_to_mark());
      case Op::ADDITEMS:
        return put(Kind::set, pop_to_mark());
      default:
        return false;
    }
  }

  bool put(Kind kind, const Items& items) {
    const TorchValue& target = top();
    if (target.kind != kind)
      damaged("it fills ", described(kind), ", but ", described(target.kind), " is there");
    if (kind == Kind::dict && items.size() % 2 != 0) damaged("a key has no value");
    Items& all = TorchObjects::filling(target);
    all.insert(all.end(), items.begin(), items.end());
    return true;
  }

  // Makes a container.
  bool gather() {
    const auto tuple = [&](Items items) { return push(objects_.make(Kind::tuple, std::move(items))); };
    switch (op_) {
      case Op::EMPTY_LIST:
        return push(objects_.make(Kind::list, Items()));
      case Op::EMPTY_DICT:
        return push(objects_.make(Kind::dict, Items()));
      case Op::EMPTY_SET:
        return push(objects_.make(Kind::set, Items()));
      case Op::FROZENSET:
        return push(objects_.make(Kind::set, pop_to_mark()));
      case Op::EMPTY_TUPLE:
        return tuple({});
      case Op::TUPLE:
        return tuple(pop_to_mark());
      case Op::TUPLE1:
        return tuple(pop_several(1));
      case Op::TUPLE2:
        return tuple(pop_several(2));
      case Op::TUPLE3:
        return tuple(pop_several(3));
      default:
        return false;
    }
  }

  // Marks, the memo, and what concerns the program as a whole.
  bool remember() {
    switch (op_) {
      case Op::MARK:
        marks_.push_back(stack_.size());
        return true;
      case Op::POP:
        pop();
        return true;
      case Op::POP_MARK:
        pop_to_mark();
        return true;
      case Op::DUP:
        return push(&top());
      case Op::BINPUT:
        return store(number<uint8_t>());
      case Op::LONG_BINPUT:
        return store(number<uint32_t>());
      case Op::MEMOIZE:
        return store(memo_.size());
      case Op::BINGET:
        return fetch(number<uint8_t>());
      case Op::LONG_BINGET:
        return fetch(number<uint32_t>());
      case Op::PROTO:
        return check_protocol(number<uint8_t>());
      case Op::FRAME:
        return check_frame(number<uint64_t>());
      case Op::STOP:
        return stop();
      default:
        return false;
    }
  }

  bool store(uint64_t place) {
    memo_[place] = &top();
    return true;
  }

  bool fetch(uint64_t place) {
    const auto found = memo_.find(place);
    if (found == memo_.end()) damaged("nothing was memorized under the number ", place);
    return push(found->second);
  }

  bool check_protocol(uint8_t protocol) const {
    if (op_at_ != 0) damaged("it announces a protocol in its midst");
    if (protocol < 2 || protocol > 5)
      throw DataError("it is of protocol ", static_cast<int>(protocol),
                      ", 2 to 5 are known; save the file again with "
                      "torch.save's own protocol");
    return true;
  }

  bool check_frame(uint64_t bytes) const {
    if (bytes > program_.size() - next_)
      damaged("a frame has ", bytes, " bytes, ", program_.size() - next_, " are left");
    return true;
  }

  bool stop() {
    if (!marks_.empty() || stack_.size() != 1)
      damaged("it ends with ", stack_.size(), " values on the stack");
    result_ = pop();
    return true;
  }

  // Types, functions, and what they make.
  bool make_object() {
    switch (op_) {
      case Op::GLOBAL: {
        const std::string module = take_line();
        return push(objects_.global(module, take_line()));
      }
      case Op::STACK_GLOBAL: {
        const Items names = pop_several(2);
        if (names[0]->kind != Kind::text || names[1]->kind != Kind::text) damaged("a name is no text");
        return push(objects_.global(names[0]->text(), names[1]->text()));
      }
      case Op::BINPERSID:
        return push(objects_.storage(*pop()));
      case Op::REDUCE: {
        const Items call = pop_several(2);
        return push(objects_.call(*call[0], *call[1]));
      }
      case Op::BUILD: {  // attributes: a state dict has `_metadata`, the versions of its modules
        const Items call = pop_several(2);
        if (call[0]->kind != Kind::dict || call[1]->kind != Kind::dict)
          damaged("it gives ", described(call[1]->kind), " as attributes to ", described(call[0]->kind));
        return push(call[0]);
      }
      default:
        return false;
    }
  }

  const std::span<const std::byte> program_;
  TorchObjects& objects_;
  uint64_t next_ = 0, op_at_ = 0;
  Op op_ = Op::PROTO;
  std::vector<const TorchValue*> stack_;
  std::vector<size_t> marks_;
  std::unordered_map<uint64_t, const TorchValue*> memo_;
  const TorchValue* result_ = nullptr;
};

}  // namespace

const TorchValue* run_pickle(std::span<const std::byte> program, TorchObjects& objects) {
  return Machine(program, objects).run();
}

}  // namespace lab::detail
