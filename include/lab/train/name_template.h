#pragma once
// Names of files that say what is in them: "digits-{epoch:03d}-{accuracy/validate:.4f}".

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lab/train/callback.h"

namespace lab {

// Text with fields in braces: {epoch} and {step}, whole numbers, and {TAG} for what was measured under that
// tag; behind a colon how it is written: [0][width] and, for what was measured, [.digits] and one of f, e and
// g, as in C. Without that, as short as it reads back the same. A value.
class NameTemplate {
 public:
  // Nothing for what is none, for one without {epoch} or {step}, whose names would all be one, and for text
  // that no file name has.
  static std::optional<NameTemplate> parse(const std::string& text);

  std::vector<std::string> tags() const;  // but epoch and step
  // Of a checkpoint: `epoch` is 0-based, `step` counts optimizer steps that are done. A value that was not
  // measured is "nan".
  std::string name(int64_t epoch, int64_t step, const Values& values) const;

 private:
  struct Piece {
    std::string text;    // before the field
    std::string field;   // empty: there is none
    bool zeros = false;  // fill up with zeros, not spaces
    int width = 0, digits = -1;
    char form = 0;  // 'd', 'f', 'e', 'g'; 0: the shortest
  };
  static bool read_format(const std::string& format, Piece& piece);
  static std::string written(const Piece& piece, double value);
  std::vector<Piece> pieces_;
};

}  // namespace lab
