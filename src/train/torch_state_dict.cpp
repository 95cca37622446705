#include <algorithm>
#include <array>

#include "lab/core/error.h"
#include "lab/train/torch_file.h"

namespace lab {
namespace {

using Kind = TorchValue::Kind;

constexpr std::array<std::string_view, 3> usual_entries = {"state_dict", "model_state_dict", "model"};
constexpr std::array<std::string_view, 3> known_prefixes = {"module.", "_orig_mod.", "model."};
constexpr std::string_view loss_prefix = "loss_function.";
constexpr size_t most_name_bytes = size_t{64} << 20;  // of all names together: those of nested ones multiply

// Names of tensors, or of state dicts; values that modules add by get_extra_state are passed over.
bool is_state_dict(const TorchValue& value) {
  if (value.kind != Kind::dict) return false;
  size_t tensors = 0;
  for (size_t i = 0; i < value.items().size(); i += 2) {
    const TorchValue &key = *value.items()[i], &item = *value.items()[i + 1];
    if (key.kind != Kind::text) return false;
    if (key.text().ends_with("_extra_state") && item.kind != Kind::tensor) continue;
    if (item.kind != Kind::tensor && !is_state_dict(item)) return false;
    ++tensors;
  }
  return tensors > 0;
}

const TorchValue& state_dict_in(const TorchFile& file) {
  const TorchValue& root = file.root();
  for (const std::string_view name : usual_entries)
    if (const TorchValue* entry = root.find(name); entry && is_state_dict(*entry)) return *entry;
  if (is_state_dict(root)) return root;
  std::vector<const TorchValue*> found;
  std::vector<std::string> found_names, names;
  for (size_t i = 0; root.kind == Kind::dict && i < root.items().size(); i += 2) {
    if (root.items()[i]->kind != Kind::text) continue;
    names.push_back(quoted(root.items()[i]->text().substr(0, 100)));
    if (!is_state_dict(*root.items()[i + 1])) continue;
    found.push_back(root.items()[i + 1]);
    found_names.push_back(names.back());
  }
  if (found.size() == 1) return *found.front();
  constexpr size_t most = 12;
  if (names.size() > most) names.resize(most);
  if (found.empty())
    throw DataError(quoted(file.path()), " holds no state dict (names of tensors)",
                    names.empty() ? "" : text("; its entries are ", join(names)),
                    "; save the model's state_dict() in Python");
  throw DataError(quoted(file.path()), " holds ", found.size(), " state dicts: ", join(found_names),
                  "; save that of the model alone, or under the name \"state_dict\"");
}

void collect(const TorchValue& state_dict, const std::string& prefix, size_t& name_bytes,
             std::vector<TensorView>& out) {
  for (size_t i = 0; i < state_dict.items().size(); i += 2) {
    const TorchValue& item = *state_dict.items()[i + 1];
    const std::string name = prefix + state_dict.items()[i]->text();
    name_bytes += name.size();
    if (name_bytes > most_name_bytes)
      throw DataError("the names of its tensors take over ", byte_size(most_name_bytes),
                      "; save the state dict with shorter ones");
    if (item.kind == Kind::dict) collect(item, name + '.', name_bytes, out);
    if (item.kind != Kind::tensor) continue;
    out.push_back(item.tensor());
    out.back().name = name;
  }
}

void leave_out_loss(std::vector<TensorView>& tensors) {
  const auto of_loss = [](const TensorView& tensor) { return tensor.name.starts_with(loss_prefix); };
  if (!std::all_of(tensors.begin(), tensors.end(), of_loss)) std::erase_if(tensors, of_loss);
}

void check_distinct(const TorchFile& file, const std::vector<TensorView>& tensors) {
  std::vector<std::string_view> names;
  for (const TensorView& tensor : tensors) names.push_back(tensor.name);
  std::sort(names.begin(), names.end());
  if (const auto twice = std::adjacent_find(names.begin(), names.end()); twice != names.end())
    throw DataError(quoted(file.path()), " has two tensors with the name ", quoted(twice->substr(0, 100)),
                    "; save its state dict under other names");
}

}  // namespace

std::vector<std::string> without_common_prefixes(std::vector<std::string> names) {
  const auto strip = [&](std::string_view prefix) {
    const auto has = [&](const std::string& name) {
      return name.size() > prefix.size() && name.starts_with(prefix);
    };
    if (names.empty() || !std::all_of(names.begin(), names.end(), has)) return false;
    for (std::string& name : names) name.erase(0, prefix.size());
    return true;
  };
  while (std::any_of(known_prefixes.begin(), known_prefixes.end(), strip)) {
  }
  return names;
}

std::vector<TensorView> model_tensors_of(const TorchFile& file, bool keep_names) {
  std::vector<TensorView> out;
  size_t name_bytes = 0;
  collect(state_dict_in(file), "", name_bytes, out);
  leave_out_loss(out);
  check_distinct(file, out);
  if (keep_names) return out;
  std::vector<std::string> names;
  for (const TensorView& tensor : out) names.push_back(tensor.name);
  names = without_common_prefixes(std::move(names));
  for (size_t i = 0; i < out.size(); ++i) out[i].name = names[i];
  return out;
}

}  // namespace lab
