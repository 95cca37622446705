#pragma once
// Where an axis has its numbers.

#include <string>
#include <vector>

namespace lab::detail {

struct Tick {
  double value = 0;
  std::string text;
};

// Round numbers of one step (1, 2 or 5 times a power of ten) from `least` to `most`, about `wanted` of them.
// least < most, both finite. Where they are to be whole, the step is 1 at least.
std::vector<Tick> ticks(double least, double most, int wanted, bool whole = false);
// Powers of ten; where there are few of them 2 and 5 times these too. 0 < least < most.
std::vector<Tick> logarithmic_ticks(double least, double most, int wanted);

// For the cell of a table: 0, 17, 0.25, and where that would be long 1.2M.
std::string short_number(double value);

}  // namespace lab::detail
