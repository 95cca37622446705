#pragma once
// What a HOCON file says before its substitutions are made.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "track/hocon.h"

namespace lab::detail {

struct HoconNode {
  enum class Kind { null, text, list, object, substitution, row };
  Kind kind = Kind::null;
  std::string text = {};   // of a text; the path of a substitution
  std::string blank = {};  // what stood behind it: part of the value when more follows in a row
  bool quoted = false, optional = false;
  std::vector<HoconNode> parts = {};  // of a list; of a row: values side by side, one of them a substitution
  std::vector<std::pair<std::string, HoconNode>> members = {};
  std::shared_ptr<HoconNode> before = {};  // what the key held before this row
  std::string place = {};

  HoconNode* member(const std::string& key);
};

// Sets what lies at `path` below `object`; `append` adds to a list or text that is there.
void put(HoconNode& object, const std::vector<std::string>& path, HoconNode value, bool append = false);

// Puts values that stand side by side together: texts with the blanks between them, lists, or objects.
// Throws ConfigError where they are of different kinds.
HoconNode joined(std::vector<HoconNode> parts, const std::string& place);

// The tree with all substitutions made. Throws ConfigError.
Hocon resolved(const HoconNode& root, const Environment& environment);

}  // namespace lab::detail
