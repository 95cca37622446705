#include "draw/cairo.h"

#include "lab/core/error.h"
#include "lab/core/library.h"

namespace lab::detail {

CairoFunctions load_cairo(const std::string& name) {
  void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = dlerror();
    throw Unavailable("the library cairo does not load (", reason, "): install Debian's libcairo2");
  }
  CairoFunctions c;
#define LAB_CAIRO_FIND(function)                                                \
  if (!find(library, "cairo_" #function, c.function))                           \
    throw Unavailable("the library cairo that is here has no cairo_" #function, \
                      ": install Debian's libcairo2");
  LAB_CAIRO_FUNCTIONS(LAB_CAIRO_FIND)
#undef LAB_CAIRO_FIND
  return c;
}

const CairoFunctions& cairo() {
  static const CairoFunctions functions = load_cairo("libcairo.so.2");
  return functions;
}

}  // namespace lab::detail
