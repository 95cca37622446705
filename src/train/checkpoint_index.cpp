#include "train/checkpoint_index.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "lab/core/error.h"
#include "lab/core/process.h"

namespace lab {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* last_name = "last.safetensors";
constexpr const char* best_name = "best.safetensors";

std::optional<CheckpointEntry> entry_named(const std::string& file) {
  long epoch = 0, step = 0;
  int used = 0;
  const bool fits =
      std::sscanf(file.c_str(), "epoch=%ld-step=%ld.safetensors%n", &epoch, &step, &used) == 2 &&
      static_cast<size_t>(used) == file.size();
  if (!fits) return std::nullopt;
  return CheckpointEntry{file, epoch, step};
}

std::optional<std::vector<CheckpointEntry>> listed(const std::string& folder) {
  std::vector<CheckpointEntry> entries;
  try {
    const Json index = Json::parse(read_file(folder + "/index.json", "index of checkpoints"));
    for (const auto& item : index.at("checkpoints"))
      if (auto entry = entry_named(item.at("file").get<std::string>())) entries.push_back(std::move(*entry));
  } catch (const std::exception&) {  // missing or damaged: the files tell
    return std::nullopt;
  }
  return entries;
}

std::vector<CheckpointEntry> found(const std::string& folder) {
  std::vector<CheckpointEntry> entries;
  std::error_code ignored;
  for (const auto& file : std::filesystem::directory_iterator(folder, ignored))
    if (auto entry = entry_named(file.path().filename().string())) entries.push_back(std::move(*entry));
  std::ranges::sort(entries, std::greater<>(), &CheckpointEntry::step);
  return entries;
}

}  // namespace

std::string checkpoint_name(int64_t epoch, int64_t step) {
  return text("epoch=", epoch, "-step=", step, ".safetensors");
}

std::vector<CheckpointEntry> checkpoints_in(const std::string& folder) {
  auto entries = listed(folder).value_or(found(folder));
  if (entries.empty() && std::filesystem::exists(folder + "/" + last_name))
    entries.push_back({last_name, 0, 0});
  return entries;
}

void write_checkpoint_index(const std::string& folder, const std::vector<CheckpointEntry>& entries,
                            const std::vector<Best>& ranked) {
  Json list = Json::array();
  if (!entries.empty())
    list.push_back({{"file", last_name}, {"epoch", entries.front().epoch}, {"step", entries.front().step}});
  const auto add = [&](const std::string& file, const Best& best) {
    list.push_back({{"file", file},
                    {"epoch", best.epoch},
                    {"step", best.step},
                    {"monitor", best.monitor},
                    {"value", best.value}});
  };
  if (!ranked.empty()) add(best_name, ranked.front());
  for (const Best& best : ranked)
    if (!best.file.empty()) add(best.file, best);
  for (const auto& entry : entries)
    list.push_back({{"file", entry.file}, {"epoch", entry.epoch}, {"step", entry.step}});
  write_file_atomically(folder + "/index.json", Json({{"format", 1}, {"checkpoints", list}}).dump(2) + "\n");
}

}  // namespace lab
