#pragma once
// Files of Python's torch.save (zip form, PyTorch 1.13 and later; Lightning's .ckpt is one), read without
// running anything in them, and written so that torch.load(weights_only=True) takes them.
//
// Such a file is a zip archive: `data.pkl`, a program for Python's pickle machine that builds the objects,
// and `data/0`, `data/1`, ..., the bytes of the tensors. The reader has a machine of its own that can build
// plain values and tensors, and refuses everything else by name.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "lab/train/safetensors.h"

namespace lab {

// A value of a file. Owned by the TorchFile and valid while it or a copy of it lives; two places may share
// one.
struct TorchValue {
  // The last two are there only while a file is read.
  enum class Kind {
    none,
    boolean,
    integer,
    real,
    text,
    bytes,
    list,
    tuple,
    dict,
    set,
    tensor,
    dtype,
    device,
    global,
    storage
  };
  using Items = std::vector<const TorchValue*>;

  Kind kind = Kind::none;
  std::variant<std::monostate, bool, int64_t, double, std::string, Items, std::unique_ptr<TensorView>>
      content = {};

  bool boolean() const { return std::get<bool>(content); }
  int64_t integer() const { return std::get<int64_t>(content); }
  double real() const { return std::get<double>(content); }
  const std::string& text() const {
    return std::get<std::string>(content);
  }  // text, bytes; "torch.f32", "cuda:0"
  const Items& items() const {
    return std::get<Items>(content);
  }  // list, tuple, set; dict: key, value, key, ...
  const TensorView& tensor() const {
    return *std::get<std::unique_ptr<TensorView>>(content);
  }                                                    // row-major, nameless
  const TorchValue* find(std::string_view key) const;  // of a dict; nullptr: there is none, or it is no dict
};

// A file in memory. Immutable: several threads may read.
class TorchFile {
 public:
  // Reads and checks all of it: structure, checksums (CRC-32), every view of every tensor. Memory is bounded
  // by a small multiple of the file's size. Throws InputNotFound, IoError, and DataError for what is damaged,
  // of another form, or holds anything but plain values and tensors: with the place in its pickle and what to
  // do.
  explicit TorchFile(std::string path);

  const std::string& path() const { return path_; }
  const TorchValue& root() const { return *root_; }
  bool has_checksums() const { return has_checksums_; }  // false: Python was told to leave them out

 private:
  std::string path_;
  std::shared_ptr<const void> content_;
  const TorchValue* root_ = nullptr;
  bool has_checksums_ = false;
};

// The tensors of the model in a file, each under its bare name, in the file's order.
//
// Which: those of the first of the entries "state_dict", "model_state_dict" and "model" that is a state dict
// (names -> tensors or state dicts, whose names are joined by dots); else of the file itself if it is one;
// else of its only entry that is one. Names that begin with "loss_function." are the buffers of a loss: left
// out where others remain. Names: as long as all of them begin with "module.", "_orig_mod." or "model." (what
// DataParallel, torch.compile and a Lightning module put before them), that is taken away; `keep_names`
// leaves them. Throws DataError, naming the entries there are, where no or more than one such entry is found.
// The views are valid while `file` or a copy of it lives.
std::vector<TensorView> model_tensors_of(const TorchFile& file, bool keep_names = false);

// Names without the prefixes that all of them have, by the rule above.
std::vector<std::string> without_common_prefixes(std::vector<std::string> names);

// What is written beside the tensors: "epoch", ...
using PlainValue = std::variant<bool, int64_t, double, std::string>;
using PlainValues = std::vector<std::pair<std::string, PlainValue>>;

// Writes a state dict: an OrderedDict of the tensors or, where there are `values`, a dict of these and
// "state_dict". Whole or not at all, as write_safetensors does; the same input gives the same bytes; the
// arrays lie at multiples of 64 bytes. Throws IoError: what stood at `path` is then untouched. Throws Bug for
// two of one name, a negative dimension, text that is no UTF-8.
void write_torch_file(const std::string& path, std::span<const TensorView> tensors,
                      const PlainValues& values = {});

}  // namespace lab
