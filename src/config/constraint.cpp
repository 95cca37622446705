#include <algorithm>
#include <cmath>
#include <limits>

#include "lab/config/fields.h"
#include "lab/core/text.h"

namespace lab {
namespace {

// The number in an integer or float; not a number for anything else, which is outside of all bounds.
double number_in(const Value& value) {
  if (const auto* integer = std::get_if<int64_t>(&value.data)) return static_cast<double>(*integer);
  const auto* number = std::get_if<double>(&value.data);
  return number ? *number : std::numeric_limits<double>::quiet_NaN();
}

template <class Condition>
Constraint bound(std::string words, Condition condition) {
  return {.text = std::move(words), .check = [condition](const Value& value) {
            const double number = number_in(value);
            return std::isfinite(number) && condition(number);
          }};
}

}  // namespace

Constraint above(double limit) {
  return bound("above " + shortest(limit), [limit](double number) { return number > limit; });
}

Constraint at_least(double limit) {
  return bound("at least " + shortest(limit), [limit](double number) { return number >= limit; });
}

Constraint below(double limit) {
  return bound("below " + shortest(limit), [limit](double number) { return number < limit; });
}

Constraint at_most(double limit) {
  return bound("at most " + shortest(limit), [limit](double number) { return number <= limit; });
}

Constraint between(double low, double high) {
  return bound(text("between ", shortest(low), " and ", shortest(high)),
               [low, high](double number) { return number >= low && number <= high; });
}

Constraint one_of(std::vector<std::string> names) {
  std::vector<std::string> in_quotes;
  for (const std::string& name : names) in_quotes.push_back(lab::quoted(name));
  const auto among_names = [names](const Value& value) {
    const auto* name = std::get_if<std::string>(&value.data);
    return name && std::ranges::find(names, *name) != names.end();
  };
  return {.text = "one of " + join(in_quotes), .check = among_names, .names = std::move(names)};
}

Constraint not_empty() {
  const auto has_something = [](const Value& value) {
    if (const auto* string = std::get_if<std::string>(&value.data)) return !string->empty();
    const auto* array = std::get_if<Array>(&value.data);
    return !array || !array->empty();
  };
  return {.text = "not empty", .check = has_something, .of_whole_array = true};
}

}  // namespace lab
