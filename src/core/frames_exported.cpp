#include <dlfcn.h>

#include "core/frames.h"
#include "lab/core/text.h"

namespace lab::detail {

std::string frames_text(std::span<void* const> addresses) {
  std::string out;
  for (void* address : addresses) {
    Dl_info found = {};
    dladdr(static_cast<const char*>(address) - 1, &found);
    const char* file = found.dli_fname ? found.dli_fname : "?";
    out += found.dli_sname ? text("  ", demangled(found.dli_sname), "  ", file, '\n')
                           : text("  ?  ", file, " at ", address, '\n');
  }
  return out;
}

}  // namespace lab::detail
