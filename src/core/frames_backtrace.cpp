#include <backtrace.h>

#include "core/frames.h"
#include "lab/core/text.h"

namespace lab::detail {
namespace {

void ignore(void*, const char*, int) {}

// One for the process: it keeps what it has read of the programs.
backtrace_state* reader() {
  static backtrace_state* state = backtrace_create_state(nullptr, /*threaded=*/1, ignore, nullptr);
  return state;
}

int add_line(void* out, uintptr_t, const char* file, int line, const char* function) {
  if (function)
    *static_cast<std::string*>(out) += text("  ", demangled(function), "  ", file, ':', line, '\n');
  return 0;
}

void add_name(void* out, uintptr_t address, const char* name, uintptr_t, uintptr_t) {
  *static_cast<std::string*>(out) += name ? text("  ", demangled(name), '\n')
                                          : text("  ?  at ", reinterpret_cast<const void*>(address), '\n');
}

}  // namespace

std::string frames_text(std::span<void* const> addresses) {
  std::string out;
  for (void* address : addresses) {
    const auto call = reinterpret_cast<uintptr_t>(address) - 1;  // not what comes behind it
    std::string lines;
    backtrace_pcinfo(reader(), call, add_line, ignore, &lines);
    if (lines.empty()) backtrace_syminfo(reader(), call, add_name, ignore, &lines);
    out += lines.empty() ? text("  ?  at ", address, '\n') : lines;
  }
  return out;
}

}  // namespace lab::detail
