#include "core/terminal.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "lab/core/other_process.h"
#include "lab/core/text.h"

namespace lab::detail {
namespace {

std::string link_of(const std::string& path) {
  std::array<char, 256> buffer{};
  const ssize_t length = readlink(path.c_str(), buffer.data(), buffer.size());
  return length > 0 ? std::string(buffer.data(), static_cast<size_t>(length)) : "";
}

bool is_pipe(int descriptor) {
  struct stat what {};
  return fstat(descriptor, &what) == 0 && S_ISFIFO(what.st_mode);
}

}  // namespace

bool shows_on_terminal(const std::string& name, const std::string& words, const std::string& its_stderr) {
  constexpr std::array<std::string_view, 4> launchers = {"mpirun", "mpiexec", "orterun", "prterun"};
  constexpr std::array<std::string_view, 6> changes_it = {
      "-tag-output", "-timestamp-output", "-output-filename", "-xml", "-output", "-merge-stderr-to-stdout"};
  if (std::ranges::find(launchers, name) == launchers.end()) return false;
  if (!its_stderr.starts_with("/dev/pts/") && !its_stderr.starts_with("/dev/tty")) return false;
  return std::ranges::none_of(changes_it, [&](std::string_view word) {
    return words.find(text('\0', word, '\0')) != std::string::npos ||
           words.find(text('\0', '-', word, '\0')) != std::string::npos;
  });
}

bool stderr_is_watched() {
  if (isatty(STDERR_FILENO) == 1) return true;
  if (!is_pipe(STDERR_FILENO)) return false;
  const int parent = getppid();
  std::string name = read_proc(parent, "comm");
  while (name.ends_with('\n')) name.pop_back();
  return shows_on_terminal(name, read_proc(parent, "cmdline"), link_of(text("/proc/", parent, "/fd/2")));
}

}  // namespace lab::detail
