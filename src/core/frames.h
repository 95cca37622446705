#pragma once
// Stacks in words. By libbacktrace where the compiler comes with it, which knows every function and, with
// debug information, its lines; else by the names that a program exports.

#include <cstdint>
#include <span>
#include <string>

namespace lab::detail {

// "lab::WeightedSum lab::loss(...)"; what is no mangled name as it is.
std::string demangled(const char* name);

// A line for each address, indented. They are those that calls return to, as of execinfo's backtrace().
std::string frames_text(std::span<void* const> addresses);

}  // namespace lab::detail
