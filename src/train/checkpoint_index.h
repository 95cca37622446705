#pragma once
// Which checkpoints a folder has: index.json, and the files themselves where it is gone.

#include <cstdint>
#include <string>
#include <vector>

#include "lab/train/checkpoint.h"

namespace lab {

struct CheckpointEntry {
  std::string file;
  int64_t epoch = 0, step = 0;
};

// "epoch=3-step=188.safetensors"
std::string checkpoint_name(int64_t epoch, int64_t step);

// Newest first: what index.json lists, or without a usable one the files that are named as checkpoints. A
// file that index.json does not list belongs to a course of the run that was given up.
std::vector<CheckpointEntry> checkpoints_in(const std::string& folder);

// Replaces index.json. `entries`: newest first; `ranked`: the best first. Throws IoError.
void write_checkpoint_index(const std::string& folder, const std::vector<CheckpointEntry>& entries,
                            const std::vector<Best>& ranked);

}  // namespace lab
