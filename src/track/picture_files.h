#pragma once
// Pictures as files of a run folder.

#include <string>
#include <utility>

#include "lab/core/log.h"
#include "lab/draw/picture.h"

namespace lab::detail {

// Each file appears whole or not at all, and replaces an earlier one. Nothing throws: what can't be written
// is left out, and said once.
class PictureFiles {
 public:
  explicit PictureFiles(Log log) : log_(std::move(log)) {}
  // Makes its folder too. Of an empty picture no file.
  void write(const std::string& path, const Picture& picture);

 private:
  void say(const std::string& path, const std::string& reason);

  Log log_;
  bool said_ = false;
};

// A name that people chose as that of a file or folder: readable, of one part, never hidden, of at most 200
// bytes; other names have another one.
std::string file_name_of(const std::string& name);

}  // namespace lab::detail
