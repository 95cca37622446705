#pragma once
// The lines of a spool, for all who read one: the process that goes on writing, the sender, offline sessions.

#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "lab/track/clearml_task.h"

namespace lab::detail {

struct SpoolLine {
  nlohmann::json record;  // as lab/track/spool.h says; null: the line is damaged
  int64_t end = 0;        // offset in the file of what comes behind it
  bool ended = true;      // no: it is being written, or who wrote it was killed
  bool damaged() const { return record.is_null(); }
};

// Reads on past damage: what a crash, a disk or an editor left in one line says nothing of those behind it.
class SpoolLines {
 public:
  // `offset`: where a line begins. A missing file has no lines. Throws IoError.
  explicit SpoolLines(const std::string& path, int64_t offset = 0);

  // nullopt behind the last. Throws IoError.
  std::optional<SpoolLine> next();

 private:
  std::string path_;
  std::ifstream in_;
  int64_t end_;
};

// A member that is a text; "" for anything else.
std::string text_in(const nlohmann::json& record, const char* key);

bool is_point(const nlohmann::json& record);

struct SpooledStatus {
  std::string status, reason, message;
};
SpooledStatus status_of(const nlohmann::json& record);  // of type status

// An output model, which the newest record of its slot tells of.
struct SpooledModel {
  std::string file, design;
  int64_t iteration = 0;
  bool operator==(const SpooledModel&) const = default;
};
SpooledModel model_of(const nlohmann::json& record);  // of type model

// Of a record of type task. Throws nlohmann's exceptions for one that is not whole.
TaskDescription description_of(const nlohmann::json& record);

}  // namespace lab::detail
