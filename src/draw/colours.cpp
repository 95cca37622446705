#include "draw/colours.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace lab::detail {

std::string hex(Colour colour) {
  std::array<char, 8> out{};
  std::snprintf(out.data(), out.size(), "#%02x%02x%02x", colour.red, colour.green, colour.blue);
  return out.data();
}

Colour mixed(Colour a, Colour b, double share) {
  const auto between = [&](uint8_t from, uint8_t to) {
    return static_cast<uint8_t>(std::lround(from + (to - from) * std::clamp(share, 0.0, 1.0)));
  };
  return {between(a.red, b.red), between(a.green, b.green), between(a.blue, b.blue)};
}

// By how bright the three look to the eye.
bool dark(Colour colour) { return 0.299 * colour.red + 0.587 * colour.green + 0.114 * colour.blue < 145; }

Colour heat_colour(double place) {
  for (size_t i = 1; i < heat_stops.size(); ++i) {
    const Stop &from = heat_stops[i - 1], &to = heat_stops[i];
    if (place <= to.place)
      return mixed(from.colour, to.colour, (place - from.place) / (to.place - from.place));
  }
  return heat_stops.back().colour;
}

std::pair<double, double> heat_range(std::span<const double> values) {
  double least = 0, most = 0;
  for (const double value : values) {
    if (!std::isfinite(value)) continue;
    least = std::min(least, value);
    most = std::max(most, value);
  }
  return {least, most > least ? most : least + 1};
}

}  // namespace lab::detail
