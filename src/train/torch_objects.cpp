#include "train/torch_objects.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "lab/core/error.h"
#include "train/torch_places.h"
#include "train/torch_types.h"

namespace lab::detail {
namespace {

using Kind = TorchValue::Kind;
using Items = TorchValue::Items;

constexpr const char* damage_advice =
    "; torch.save writes no such thing: copy the file again, or take another one";
constexpr size_t most_dimensions = 64;

// Argument `index` of a call, which must be of this kind.
const TorchValue& argument(const TorchValue& arguments, size_t index, Kind kind) {
  if (index >= arguments.items().size())
    throw DataError("a call has ", arguments.items().size(), " arguments, more are wanted", damage_advice);
  const TorchValue& found = *arguments.items()[index];
  if (found.kind != kind)
    throw DataError("argument ", index, " of a call is ", described(found.kind), ", ", described(kind),
                    " is wanted", damage_advice);
  return found;
}

std::vector<int64_t> numbers(const TorchValue& tuple, const char* what) {
  if (tuple.items().size() > most_dimensions)
    throw DataError("a tensor has ", tuple.items().size(), " dimensions, ", most_dimensions,
                    " at most are known");
  std::vector<int64_t> out;
  for (const TorchValue* item : tuple.items()) {
    if (item->kind != Kind::integer || item->integer() < 0)
      throw DataError("the ", what, " of a tensor holds ", described(item->kind),
                      ", numbers from 0 up are wanted", damage_advice);
    out.push_back(item->integer());
  }
  return out;
}

// Elements from a storage's begin to behind the last one that the view touches; nullopt: no 63 bits hold it.
std::optional<int64_t> reach(const std::vector<int64_t>& shape, const std::vector<int64_t>& strides,
                             int64_t offset) {
  int64_t last = offset;
  for (size_t i = 0; i < shape.size(); ++i) {
    int64_t step = 0;
    if (shape[i] == 0) return offset;
    if (__builtin_mul_overflow(shape[i] - 1, strides[i], &step) || __builtin_add_overflow(last, step, &last))
      return std::nullopt;
  }
  if (__builtin_add_overflow(last, 1, &last)) return std::nullopt;
  return last;
}

bool is_row_major(const std::vector<int64_t>& shape, const std::vector<int64_t>& strides) {
  int64_t expected = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    if (shape[i] != 1 && strides[i] != expected) return false;
    expected *= shape[i];  // the bytes of all elements were counted before
  }
  return true;
}

// What torch says of a tensor whose numbers are not those in its storage: {"neg": True} for one whose signs
// are yet to be changed.
void refuse_marks(const TorchValue& arguments, size_t index) {
  if (index >= arguments.items().size()) return;
  const TorchValue& marks = argument(arguments, index, Kind::dict);
  for (size_t i = 0; i < marks.items().size(); i += 2)
    throw DataError("a tensor has the mark ", in_words(*marks.items()[i]),
                    ", so that its numbers are others than those stored; in Python: save it as "
                    "tensor.resolve_neg()");
}

// The text's letters as bytes, which is how Python 3 writes bytes for the older protocols.
std::string latin1_bytes(const std::string& utf8) {
  std::string out;
  for (size_t i = 0; i < utf8.size(); ++i) {
    const auto byte = static_cast<unsigned char>(utf8[i]);
    if (byte < 0x80) {
      out += utf8[i];
    } else if ((byte == 0xC2 || byte == 0xC3) && i + 1 < utf8.size()) {
      out += static_cast<char>(((byte & 3) << 6) | (static_cast<unsigned char>(utf8[++i]) & 0x3F));
    } else {
      throw DataError("bytes are written with letters that are none of latin-1", damage_advice);
    }
  }
  return out;
}

}  // namespace

// The functions that a file may call.
struct TorchCalls {
  static const TorchValue* dict(TorchObjects& objects, const TorchValue& arguments) {
    if (arguments.items().empty()) return objects.make(Kind::dict, Items());
    if (arguments.items().front()->kind == Kind::dict)  // of a Counter; a name of its own is not worth a copy
      return arguments.items().front();
    Items entries;
    for (const TorchValue* pair : argument(arguments, 0, Kind::list).items()) {
      if ((pair->kind != Kind::list && pair->kind != Kind::tuple) || pair->items().size() != 2)
        throw DataError("a dict is made of something that is no pair", damage_advice);
      objects.charge(2 * sizeof(void*));
      entries.insert(entries.end(), pair->items().begin(), pair->items().end());
    }
    return objects.make(Kind::dict, std::move(entries));
  }

  static const TorchValue* set(TorchObjects& objects, const TorchValue& arguments) {
    Items items;
    if (!arguments.items().empty()) items = argument(arguments, 0, Kind::list).items();
    objects.charge(items.size() * sizeof(void*));
    return objects.make(Kind::set, std::move(items));
  }

  static const TorchValue* bytes(TorchObjects& objects, const TorchValue& arguments) {
    if (arguments.items().empty()) return objects.make(Kind::bytes, std::string());
    if (arguments.items().front()->kind == Kind::bytes) return arguments.items().front();
    const std::string& letters = argument(arguments, 0, Kind::text).text();
    const std::string& encoding = argument(arguments, 1, Kind::text).text();
    if (encoding != "latin1" && encoding != "latin-1")
      throw DataError("bytes are written in the encoding ", quoted(encoding), ", Python's pickle uses latin1",
                      damage_advice);
    objects.charge(letters.size());
    return objects.make(Kind::bytes, latin1_bytes(letters));
  }

  static const TorchValue* size(TorchObjects&, const TorchValue& arguments) {
    return &argument(arguments, 0, Kind::tuple);
  }

  static const TorchValue* device(TorchObjects& objects, const TorchValue& arguments) {
    const std::string& type = argument(arguments, 0, Kind::text).text();
    const auto usual = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == ':'; };
    if (type.size() > 32 || !std::all_of(type.begin(), type.end(), usual))
      throw DataError(quoted(type.substr(0, 32)), " is no device", damage_advice);
    if (arguments.items().size() == 1) return objects.make(Kind::device, type);
    return objects.make(Kind::device, text(type, ':', argument(arguments, 1, Kind::integer).integer()));
  }

  static const TorchValue* typed_tensor(TorchObjects& objects, const TorchValue& arguments) {
    return objects.tensor(arguments, true);
  }
  static const TorchValue* untyped_tensor(TorchObjects& objects, const TorchValue& arguments) {
    return objects.tensor(arguments, false);
  }
  static const TorchValue* parameter(TorchObjects&, const TorchValue& arguments) {
    return &argument(arguments, 0, Kind::tensor);
  }

  // (function, type, its arguments, attributes): a tensor that was given attributes, which are left out.
  static const TorchValue* with_attributes(TorchObjects& objects, const TorchValue& arguments) {
    const std::string& function = argument(arguments, 0, Kind::global).text();
    const std::string& type = argument(arguments, 1, Kind::global).text();
    if (type != "torch.Tensor" || !function.starts_with("torch._utils._rebuild_tensor_v"))
      throw DataError("it makes a ", type, " by ", function, "; save it as a plain tensor");
    return objects.call(*arguments.items()[0], argument(arguments, 2, Kind::tuple));
  }
  static const TorchValue* no_call(TorchObjects&, const TorchValue&) {
    throw DataError("it calls torch.Tensor", damage_advice);
  }

  using Function = const TorchValue* (*)(TorchObjects&, const TorchValue&);
  static const std::map<std::string, Function, std::less<>>& table() {
    static const std::map<std::string, Function, std::less<>> all = {
        {"collections.OrderedDict", dict},
        {"collections.Counter", dict},
        {"__builtin__.set", set},
        {"builtins.set", set},
        {"__builtin__.frozenset", set},
        {"builtins.frozenset", set},
        {"__builtin__.bytes", bytes},
        {"builtins.bytes", bytes},
        {"__builtin__.bytearray", bytes},
        {"builtins.bytearray", bytes},
        {"_codecs.encode", bytes},
        {"torch.Size", size},
        {"torch.device", device},
        {"torch._utils._rebuild_tensor_v2", typed_tensor},
        {"torch._utils._rebuild_tensor_v3", untyped_tensor},
        {"torch._utils._rebuild_parameter", parameter},
        {"torch._utils._rebuild_parameter_with_state", parameter},
        {"torch._tensor._rebuild_from_type_v2", with_attributes},
        {"torch.Tensor", no_call},
    };
    return all;
  }
};

void TorchObjects::charge(uint64_t bytes) {
  if (bytes > copies_left_)
    throw DataError(
        "its values and views would take many times the room of the file; in Python: save the tensors as "
        "tensor.clone() or tensor.contiguous()");
  copies_left_ -= bytes;
}

const TorchValue* TorchObjects::global(const std::string& module, const std::string& name) {
  const std::string full = module + '.' + name;
  if (TorchCalls::table().contains(full)) return make(Kind::global, full);
  if (type_from_torch_name(full)) return make(Kind::dtype, full);
  if (full == "torch.storage.UntypedStorage") return make(Kind::storage, std::string());
  if (module == "torch" && type_of_storage_class(name)) return make(Kind::storage, name);
  if (module == "torch" &&
      (name.ends_with("Storage") || name.starts_with("float") || name.starts_with("complex")))
    throw DataError(
        "it holds ", quoted(full.substr(0, 100)),
        ", elements of a type that lab does not know; in Python: save the tensor as another type, "
        "as by tensor.float()");
  if (full.starts_with("torch._utils._rebuild_"))
    throw DataError("it holds a tensor that is made by ", quoted(full.substr(0, 100)),
                    ": sparse, quantized or without data, which lab does not know; in Python: save it as "
                    "tensor.to_dense() or tensor.dequantize(), or leave it out");
  throw DataError(
      "it holds an object of ", quoted(full.substr(0, 200)),
      ", which is neither a tensor nor a plain value, and making it could run any code: it is refused, and ",
      "lab_ckpt convert cannot help. If you trust the file, save its weights alone in Python: "
      "torch.save(torch.load(IN, weights_only=False)[\"state_dict\"], OUT)");
}

const TorchValue* TorchObjects::storage(const TorchValue& id) {
  if (id.kind != Kind::tuple || argument(id, 0, Kind::text).text() != "storage")
    throw DataError("it refers to something outside of itself that is no storage", damage_advice);
  const TorchValue& type_given = argument(id, 1, Kind::storage);
  if (!std::holds_alternative<std::string>(type_given.content))
    throw DataError("a storage is given for the type of a storage", damage_advice);
  const std::string& key = argument(id, 2, Kind::text).text();
  argument(id, 3, Kind::text);
  const int64_t elements = argument(id, 4, Kind::integer).integer();
  const auto type = type_of_storage_class(type_given.text());
  Storage out{storages_(key), type ? size_of(*type) : 1, type ? storage_class(*type) : ""};
  int64_t bytes = 0;
  if (elements < 0 || __builtin_mul_overflow(elements, out.element_size, &bytes) ||
      static_cast<uint64_t>(bytes) != out.bytes.size())
    throw DataError("the storage ", quoted(key.substr(0, 100)), " is to have ", elements, " elements of ",
                    out.element_size, " bytes, its entry has ", out.bytes.size(), " bytes", damage_advice);
  opened_.push_back(out);
  return make(Kind::storage, static_cast<int64_t>(opened_.size()) - 1);
}

// (storage, offset, shape, strides, requires_grad, hooks[, type][, marks])
const TorchValue* TorchObjects::tensor(const TorchValue& arguments, bool typed) {
  const TorchValue& source = argument(arguments, 0, Kind::storage);
  if (!std::holds_alternative<int64_t>(source.content))
    throw DataError("a tensor has no storage but a type", damage_advice);
  const Storage& storage = opened_.at(static_cast<size_t>(source.integer()));
  const int64_t offset = argument(arguments, 1, Kind::integer).integer();
  const auto strides = numbers(argument(arguments, 3, Kind::tuple), "strides");
  auto view = std::make_unique<TensorView>();
  view->shape = numbers(argument(arguments, 2, Kind::tuple), "shape");
  charge(2 * view->shape.size() * sizeof(int64_t));
  const auto type = typed ? type_of_storage_class(storage.type)
                          : type_from_torch_name(argument(arguments, 6, Kind::dtype).text());
  if (!type || (typed && storage.type.empty()) || (!typed && !storage.type.empty()))
    throw DataError("a tensor and its storage disagree about the type of the elements", damage_advice);
  view->type = *type;
  const auto elements = static_cast<int64_t>(storage.bytes.size()) / size_of(*type);
  const auto end = strides.size() == view->shape.size() && offset >= 0 ? reach(view->shape, strides, offset)
                                                                       : std::nullopt;
  if (!end || *end > elements || !byte_count(*type, view->shape))
    throw DataError("a tensor reaches beyond its storage of ", elements, " elements", damage_advice);
  refuse_marks(arguments, typed ? 6 : 7);
  view->data = row_major(storage, *view, offset, strides);
  return make(Kind::tensor, std::move(view));
}

const std::byte* TorchObjects::row_major(const Storage& storage, const TensorView& tensor, int64_t offset,
                                         std::vector<int64_t> strides) {
  const auto bytes = static_cast<size_t>(byte_count(tensor.type, tensor.shape).value());
  const auto size = static_cast<size_t>(size_of(tensor.type));
  const std::byte* first = storage.bytes.data() + static_cast<size_t>(offset) * size;
  if (bytes == 0 || is_row_major(tensor.shape, strides)) return first;
  charge(bytes);
  std::vector<std::byte>& copy = copies_.emplace_back(bytes);
  for (size_t i = 0; i < strides.size(); ++i)
    if (tensor.shape[i] == 1) strides[i] = 0;  // it may be any number there
  std::vector<int64_t> place(tensor.shape.size());
  int64_t at = 0;
  for (size_t done = 0; done < bytes; done += size) {
    std::memcpy(copy.data() + done, first + static_cast<size_t>(at) * size, size);
    for (size_t i = place.size(); i-- > 0;) {
      at += strides[i];
      if (++place[i] < tensor.shape[i]) break;
      at -= strides[i] * tensor.shape[i];
      place[i] = 0;
    }
  }
  return copy.data();
}

const TorchValue* TorchObjects::call(const TorchValue& function, const TorchValue& arguments) {
  if (function.kind != Kind::global || arguments.kind != Kind::tuple)
    throw DataError("it calls ", described(function.kind), " with ", described(arguments.kind),
                    damage_advice);
  return TorchCalls::table().at(function.text())(*this, arguments);
}

std::string_view described(Kind kind) {
  constexpr std::string_view names[] = {"None",     "a bool",  "a whole number", "a number",   "a text",
                                        "bytes",    "a list",  "a tuple",        "a dict",     "a set",
                                        "a tensor", "a dtype", "a device",       "a function", "a storage"};
  return names[static_cast<size_t>(kind)];
}

}  // namespace lab::detail
