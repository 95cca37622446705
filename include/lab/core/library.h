#pragma once
// Libraries that are loaded when they are first used, and only by the rank that uses them.

#include <dlfcn.h>

namespace lab::detail {

// Whether the library has the function.
template <class Function>
bool find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

}  // namespace lab::detail
