#pragma once
// What the tests of the config layer share: tables from text, and the text of errors.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "lab/config/document.h"
#include "lab/core/error.h"

namespace lab {

// The table of one file "x.toml" with this text, after these --set.
inline Table table_of(const std::string& toml, const std::vector<std::string>& sets = {}) {
  return merge_config(ConfigFiles{{{"x.toml", toml}}}, sets);
}

// The message of the E that the action throws; another exception, or none, fails the test.
template <class E = ConfigError, class Action>
std::string error_of(Action action) {
  try {
    action();
  } catch (const E& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "threw something else: " << error.what();
    return "";
  }
  ADD_FAILURE() << "threw nothing";
  return "";
}

// The value at the path as it would be written in a file, "nothing" where there is none.
inline std::string at(const Table& table, const std::string& path) {
  const Value* value = find(table, path);
  return value ? value->toml() : "nothing";
}

inline std::string origin_at(const Table& table, const std::string& path) {
  const Value* value = find(table, path);
  return value ? value->origin.text() : "nothing";
}

}  // namespace lab
