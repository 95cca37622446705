#include "track/model_cache.h"

#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "lab/core/error.h"
#include "lab/core/process.h"

namespace lab::detail {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::array endings = {"safetensors", "ckpt", "pt", "pth", "bin"};
constexpr size_t most_task_name = 120, most_model_name = 100;  // a file name has room for 255 bytes
constexpr uint64_t most_record = 1 << 20;

std::string hex(uint64_t number) {
  std::array<char, 17> digits{};
  std::snprintf(digits.data(), digits.size(), "%016llx", static_cast<unsigned long long>(number));
  return digits.data();
}

// Two models of a task never get the same file: a name that had to be changed carries a checksum of what it
// was.
std::string file_stem(const std::string& name) {
  std::string stem = file_name(name, most_model_name);
  if (stem != name) stem += "-" + hex(XXH3_64bits(name.data(), name.size())).substr(0, 8);
  return stem;
}

std::string folder_in(const fs::path& task_folder) {
  return (task_folder / "train" / "model_weights").string();
}

Json as_json(const ModelOfTask& model, const KeptModel& kept) {
  return {{"task_id", model.task_id}, {"task_name", kept.task_name},
          {"name", model.name},       {"model_id", kept.model_id},
          {"uri", kept.uri},          {"last_update", kept.last_update},
          {"bytes", kept.sum.bytes},  {"xxh3", kept.sum.checksum}};
}

}  // namespace

std::string file_name(const std::string& name, size_t most) {
  constexpr std::string_view plain = "_.-+= ";
  std::string out = name.substr(0, most);
  for (char& c : out) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!letter && plain.find(c) == std::string_view::npos) c = '_';
  }
  if (out.empty()) return "_";
  if (out.front() == '.' || out.front() == ' ') out.front() = '_';
  return out;
}

std::string weights_ending(const std::string& uri) {
  const std::string path = uri.substr(0, uri.find_first_of("?#"));
  const size_t dot = path.rfind('.');
  const std::string ending = dot == std::string::npos ? "" : path.substr(dot + 1);
  return std::ranges::find(endings, ending) == endings.end() ? "bin" : ending;
}

std::string record_of(const std::string& path) { return path + ".json"; }

std::optional<FileSum> sum_of(const std::string& path, const std::function<bool()>& called_off) {
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), XXH3_freeState);
  std::ifstream in(path, std::ios::binary);
  if (!in || !state || XXH3_64bits_reset(state.get()) != XXH_OK) return std::nullopt;
  std::vector<char> block(size_t{1} << 20);
  FileSum sum;
  while (in) {
    if (called_off()) return std::nullopt;
    in.read(block.data(), std::ssize(block));
    const auto got = static_cast<size_t>(in.gcount());
    if (XXH3_64bits_update(state.get(), block.data(), got) != XXH_OK) return std::nullopt;
    sum.bytes += in.gcount();
  }
  sum.checksum = hex(XXH3_64bits_digest(state.get()));
  return in.eof() ? std::optional(sum) : std::nullopt;
}

CachePlace::CachePlace(ModelOfTask model, std::string path)
    : model_(std::move(model)), path_(std::move(path)) {}

CachePlace::CachePlace(const std::string& root, const ModelOfTask& model, const std::string& task_name,
                       const std::string& ending)
    : CachePlace(model,
                 folder_in(fs::path(root) / (file_name(task_name, most_task_name) + "-" + model.task_id)) +
                     "/" + file_stem(model.name) + "." + ending) {}

std::optional<CachePlace> CachePlace::newest(const std::string& root, const ModelOfTask& model) {
  std::optional<CachePlace> found;
  fs::file_time_type time;
  std::error_code absent;
  for (const auto& entry : fs::directory_iterator(root, absent)) {
    if (!entry.path().filename().string().ends_with("-" + model.task_id)) continue;
    for (const char* ending : endings) {
      const CachePlace place(model, folder_in(entry.path()) + "/" + file_stem(model.name) + "." + ending);
      const auto written = fs::last_write_time(record_of(place.path()), absent);
      if (absent || (found && written <= time)) continue;
      found = place;
      time = written;
    }
  }
  return found;
}

std::optional<KeptModel> CachePlace::whole() const {
  KeptModel kept;
  std::error_code absent;
  if (!fs::is_regular_file(path_, absent)) return std::nullopt;
  try {
    const Json json = Json::parse(read_file(record_of(path_), "record of a fetched model", most_record));
    kept = {.task_name = json.at("task_name").get<std::string>(),
            .model_id = json.at("model_id").get<std::string>(),
            .uri = json.at("uri").get<std::string>(),
            .last_update = json.at("last_update").get<std::string>(),
            .sum = {json.at("bytes").get<int64_t>(), json.at("xxh3").get<std::string>()}};
    if (json.at("task_id") != model_.task_id || json.at("name") != model_.name) return std::nullopt;
  } catch (const std::exception&) {  // no record, or none of ours: the file is fetched again
    return std::nullopt;
  }
  return sum_of(path_) == kept.sum ? std::optional(kept) : std::nullopt;
}

std::string CachePlace::prepare() const {
  const std::string folder = fs::path(path_).parent_path().string();
  std::error_code problem;
  fs::create_directories(folder, problem);
  if (problem)
    throw IoError("cannot make the folder ", folder, " for models of earlier tasks: ", problem.message(),
                  "; check its rights and free space, or choose another place with "
                  "trainer.init.default_root_dir");
  return text(path_, ".partial-", host_name(), "-", getpid());
}

void CachePlace::keep(const std::string& temporary, const KeptModel& model) const {
  std::error_code problem;
  fs::rename(temporary, path_, problem);
  if (problem)
    throw IoError("cannot give the fetched model its name ", path_, ": ", problem.message(),
                  "; check what is in its way there");
  write_file_atomically(record_of(path_),
                        as_json(model_, model).dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace lab::detail
