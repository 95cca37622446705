#include "draw/ticks.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "lab/core/formatted.h"

namespace lab::detail {
namespace {

constexpr size_t at_most = 100;  // whatever rounding makes of the ends

struct Unit {
  double value;
  const char* sign;
};
constexpr std::array<Unit, 4> units = {{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}, {1, ""}}};

// What numbers up to `most` are counted in, of which five digits are not too many.
Unit unit_of(double most) {
  if (most < 1e5) return units.back();
  return *std::ranges::find_if(units, [&](const Unit& unit) { return most >= unit.value; });
}

// 1, 2 or 5 times a power of ten: the first that is not less.
double round_step(double step) {
  const double power = std::pow(10, std::floor(std::log10(step)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (step <= factor * power * (1 + 1e-9)) return factor * power;
  return 10 * power;
}

}  // namespace

std::vector<Tick> ticks(double least, double most, int wanted, bool whole) {
  const double fine = round_step((most - least) / std::max(wanted, 1)),
               step = whole ? std::max(fine, 1.0) : fine;
  const double longest = std::max(std::abs(least), std::abs(most));
  const Unit unit = unit_of(longest);
  const int decimals = std::max(0, static_cast<int>(-std::floor(std::log10(step / unit.value) + 1e-9)));
  std::vector<Tick> out;
  for (double at = std::ceil(least / step - 1e-6); at * step <= most + step * 1e-6 && out.size() < at_most;
       ++at) {
    const double value = at == 0 ? 0 : at * step;  // no -0
    if (longest < 1e-4 || longest >= 1e13)
      out.push_back({value, formatted("%.4g", value)});
    else
      out.push_back({value, formatted("%.*f", decimals, value / unit.value) + (value == 0 ? "" : unit.sign)});
  }
  return out;
}

std::vector<Tick> logarithmic_ticks(double least, double most, int wanted) {
  const double decades = std::log10(most / least);
  const int every = std::max(1, static_cast<int>(std::ceil(decades / std::max(wanted, 1))));
  std::vector<Tick> out;
  for (int power = static_cast<int>(std::floor(std::log10(least)));
       power <= std::log10(most) + 1e-9 && out.size() < at_most; ++power) {
    if (power % every != 0) continue;
    for (const double factor : {1.0, 2.0, 5.0}) {
      if (factor > 1 && decades > 2.5) continue;
      const double value = factor * std::pow(10, power);
      if (value >= least * (1 - 1e-9) && value <= most * (1 + 1e-9))
        out.push_back({value, formatted("%g", value)});
    }
  }
  return out;
}

std::string short_number(double value) {
  const double size = std::abs(value);
  if (size < 1e5) return formatted(value == std::trunc(value) ? "%.0f" : "%.3g", value);
  const Unit unit = unit_of(size);
  return size < 1e12 ? formatted("%.3g", value / unit.value) + unit.sign : formatted("%.2g", value);
}

}  // namespace lab::detail
