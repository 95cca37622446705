#pragma once
// A drawing as a value: what is to be seen, not how. Pictures of every kind are made from it.

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace lab {

struct Axis {
  std::string title = {};
  std::optional<std::pair<double, double>> range = {};  // else as far as the points go
  bool logarithmic = false;                             // points at 0 and below are not seen then
  bool whole = false;                                   // there is nothing between 1 and 2
};

enum class CurveStyle { line, thin, marks };  // marks: a line with a dot at each point

struct Curve {
  std::string name = {};               // in the legend; "": not there
  std::vector<double> x = {}, y = {};  // as many of both; a point that is not finite is a gap
  CurveStyle style = CurveStyle::line;
};

struct HeatMap {
  std::vector<std::string> columns = {}, rows = {};  // names; the first row is at the top
  std::vector<double> values = {};                   // row by row; what is not finite counts as 0
};

// Curves, or a heat map.
struct Drawing {
  std::string title = {};
  Axis x = {}, y = {};
  std::vector<Curve> curves = {};
  std::optional<HeatMap> heat_map = {};
  // What plotly() returns instead, for those who want more than can be said here: {"data": [...],
  // "layout": {...}}. Of a drawing that has nothing else no picture is made.
  std::string plotly = {};

  bool empty() const { return curves.empty() && !heat_map; }
};

// "a heat map of 2 x 3 cells has 5 values", "a curve has 3 places and 2 values"; "" where all fits.
std::string mistake_in(const Drawing& drawing);

// {"data": [...], "layout": {...}}, as plotly reads it; without the title, which is said where it is shown.
std::string plotly(const Drawing& drawing);

}  // namespace lab
