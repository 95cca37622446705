#pragma once
// What samples must be like whoever makes them, and how an error there says which one it was.

#include <exception>
#include <functional>
#include <new>
#include <string>

#include "lab/core/error.h"
#include "lab/data/sample.h"

namespace lab::detail {

std::string parts_text(const Sample& sample);  // "images u8 (28, 28), labels u8 ()"

// Throws DataError where the bytes of a part do not fit its type and shape: whoever reads them would read, or
// copy, beyond their end. `place` says which sample it is.
void check_sizes(const Sample& sample, const std::function<std::string()>& place);

// Runs `action`. What it throws gets `place()` in front; a ConfigError stays one, all else becomes a
// DataError.
template <class Place, class Action>
decltype(auto) placed(const Place& place, const Action& action) {
  try {
    return action();
  } catch (const ConfigError& problem) {
    throw ConfigError(place(), problem.what());
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& problem) {
    throw DataError(place(), problem.what());
  }
}

}  // namespace lab::detail
