#pragma once
// A checkpoint of any format that lab knows, as tensors and values: what programs show, compare and convert.

#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "lab/train/safetensors.h"
#include "lab/train/torch_file.h"

namespace lab {

// A safetensors file or one of torch.save, in memory; what it hands out is valid while it or a copy of it
// lives. Immutable: several threads may read.
class WeightsFile {
 public:
  // Tells the format from the first bytes, reads all of it and compares it with its checksums. Throws what
  // SafetensorsFile and TorchFile throw.
  explicit WeightsFile(const std::string& path);

  const std::string& path() const;
  bool is_torch() const { return std::holds_alternative<TorchFile>(file_); }
  // The file as what it is; nullptr: it is of the other kind.
  const TorchFile* torch() const { return std::get_if<TorchFile>(&file_); }
  const SafetensorsFile* safetensors() const { return std::get_if<SafetensorsFile>(&file_); }
  bool has_checksums() const { return has_checksums_; }

  // The model's tensors under their bare names: those of a safetensors file that do not begin with "lab.", or
  // model_tensors_of a torch file, which may throw DataError.
  std::vector<TensorView> model(bool keep_names = false) const;
  // All tensors, under the names of their places: "state_dict.weight",
  // "optimizer_states[0].state[0].exp_avg".
  std::vector<TensorView> tensors() const;
  // Everything else, likewise: place and value. The state of a run of lab comes in words.
  std::vector<std::pair<std::string, std::string>> values() const;
  // "epoch" and "global_step", as far as the file tells.
  PlainValues progress() const;

 private:
  std::variant<SafetensorsFile, TorchFile> file_;
  bool has_checksums_ = false;
};

// How two tensors of the same type and shape differ.
struct TensorDifference {
  bool same_bits = true;
  double largest = 0;  // of |a - b| over all elements; NaN where one side is NaN and the other is not
};
TensorDifference difference(const TensorView& a, const TensorView& b);

}  // namespace lab
