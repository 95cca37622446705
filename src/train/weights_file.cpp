#include "lab/train/weights_file.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "lab/core/error.h"
#include "train/safetensors_format.h"
#include "train/torch_places.h"

namespace lab {
namespace {

using Json = nlohmann::ordered_json;
using PlacedValues = std::vector<std::pair<std::string, std::string>>;

bool is_torch_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string start(4, '\0');
  in.read(start.data(), std::ssize(start));
  if (start == "PK\3\4" || start.starts_with("\x80\x02")) return true;
  return in && !path.ends_with(".safetensors") &&
         (path.ends_with(".ckpt") || path.ends_with(".pt") || path.ends_with(".pth"));
}

std::variant<SafetensorsFile, TorchFile> opened(const std::string& path) {
  if (is_torch_file(path)) return TorchFile(path);
  return SafetensorsFile(path);
}

// The state of a run, one line for each thing in it.
void add_run_state(const std::string& state, PlacedValues& out) {
  const Json json = Json::parse(state, nullptr, false);
  if (!json.is_object()) {
    out.emplace_back("lab", quoted(state.substr(0, 200)));
    return;
  }
  for (const auto& [name, value] : json.items()) {
    if (!value.is_structured()) {
      out.emplace_back("run." + name, value.dump());
    } else if (name == "callbacks") {
      for (const auto& callback : value) out.emplace_back("run.callback", callback.dump());
    } else if (value.is_object()) {
      for (const auto& [part, content] : value.items())
        out.emplace_back(text("run.", name, '.', part), content.dump());
    } else {
      out.emplace_back("run." + name, value.dump());
    }
  }
}

PlacedValues values_of(const SafetensorsFile& file) {
  PlacedValues out;
  for (const auto& [name, value] : file.metadata()) {
    if (name == "lab")
      add_run_state(value, out);
    else if (detail::belongs_to_model(name))
      out.emplace_back(name, quoted(value.substr(0, 200)));
  }
  return out;
}

PlainValues progress_of(const SafetensorsFile& file) {
  PlainValues out;
  const auto state = file.metadata().find("lab");
  if (state == file.metadata().end()) return out;
  const Json json = Json::parse(state->second, nullptr, false);
  constexpr std::pair<const char*, const char*> names[] = {{"epoch", "epoch"}, {"step", "global_step"}};
  for (const auto& [name, torch_name] : names)
    if (json.is_object() && json.contains(name) && json[name].is_number_integer())
      out.emplace_back(torch_name, json[name].get<int64_t>());
  return out;
}

PlainValues progress_of(const TorchFile& file) {
  PlainValues out;
  for (const char* name : {"epoch", "global_step"})
    if (const TorchValue* value = file.root().find(name); value && value->kind == TorchValue::Kind::integer)
      out.emplace_back(name, value->integer());
  return out;
}

std::vector<TensorView> tensors_of(const SafetensorsFile& file) {
  std::vector<TensorView> out;
  for (const std::string& name : file.names()) out.push_back(*file.find(name));
  return out;
}

std::vector<TensorView> tensors_of(const TorchFile& file) {
  std::vector<TensorView> out;
  detail::visit_places(file.root(), [&](const std::string& place, const TorchValue& value) {
    if (value.kind != TorchValue::Kind::tensor) return;
    out.push_back(value.tensor());
    out.back().name = place;
  });
  return out;
}

PlacedValues values_of(const TorchFile& file) {
  PlacedValues out;
  detail::visit_places(file.root(), [&](const std::string& place, const TorchValue& value) {
    if (value.kind != TorchValue::Kind::tensor) out.emplace_back(place, detail::in_words(value));
  });
  return out;
}

}  // namespace

WeightsFile::WeightsFile(const std::string& path) : file_(opened(path)) {
  has_checksums_ =
      is_torch() ? std::get<TorchFile>(file_).has_checksums() : std::get<SafetensorsFile>(file_).verify();
}

const std::string& WeightsFile::path() const {
  return std::visit([](const auto& file) -> const std::string& { return file.path(); }, file_);
}

std::vector<TensorView> WeightsFile::model(bool keep_names) const {
  if (is_torch()) return model_tensors_of(std::get<TorchFile>(file_), keep_names);
  std::vector<TensorView> out = tensors_of(std::get<SafetensorsFile>(file_));
  std::erase_if(out, [](const TensorView& tensor) { return !detail::belongs_to_model(tensor.name); });
  return out;
}

std::vector<TensorView> WeightsFile::tensors() const {
  return std::visit([](const auto& file) { return tensors_of(file); }, file_);
}

std::vector<std::pair<std::string, std::string>> WeightsFile::values() const {
  return std::visit([](const auto& file) { return values_of(file); }, file_);
}

PlainValues WeightsFile::progress() const {
  return std::visit([](const auto& file) { return progress_of(file); }, file_);
}

}  // namespace lab
