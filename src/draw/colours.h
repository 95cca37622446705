#pragma once
// The colours of drawings, whoever makes pictures of them.

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

namespace lab::detail {

struct Colour {
  uint8_t red = 0, green = 0, blue = 0;
  friend bool operator==(const Colour&, const Colour&) = default;
};
inline constexpr Colour white{255, 255, 255}, ink{34, 34, 34}, grey{120, 120, 120}, light_grey{222, 222, 222};

std::string hex(Colour colour);  // "#0072b2"
// Between the two: `a` at 0, `b` at 1.
Colour mixed(Colour a, Colour b, double share);
// Whether white letters are read better on it than dark ones.
bool dark(Colour colour);

// Of curves, one after the other; they are told apart by the colour-blind too.
inline constexpr std::array<Colour, 8> curve_colours = {{{0, 98, 178},
                                                         {224, 92, 0},
                                                         {0, 140, 95},
                                                         {190, 60, 140},
                                                         {90, 175, 235},
                                                         {205, 150, 0},
                                                         {115, 60, 150},
                                                         {90, 90, 90}}};

// Of heat maps: 0 is white and all that is more differs from it at once, so that single errors are seen
// among hundreds of hits.
struct Stop {
  double place = 0;
  Colour colour;
};
inline constexpr std::array<Stop, 4> heat_stops = {
    {{0, white}, {1e-6, {222, 235, 250}}, {0.5, {80, 145, 205}}, {1, {10, 45, 100}}}};
Colour heat_colour(double place);  // 0 to 1

// What the two ends of a heat map's scale stand for: 0 (or less), and the highest value.
std::pair<double, double> heat_range(std::span<const double> values);

}  // namespace lab::detail
