#include <cmath>
#include <nlohmann/json.hpp>

#include "draw/colours.h"
#include "lab/draw/drawing.h"

namespace lab {
namespace {

using nlohmann::json;

// Whole numbers as such: 3, not 3.0.
json number(double value) {
  constexpr double exact = 9007199254740992.0;  // 2^53
  if (std::abs(value) < exact && value == std::trunc(value)) return static_cast<int64_t>(value);
  return value;
}

json axis(const Axis& axis) {
  json out = {{"title", axis.title}};
  const auto place = [&](double value) { return number(axis.logarithmic ? std::log10(value) : value); };
  if (axis.logarithmic) out["type"] = "log";
  if (axis.range) out["range"] = {place(axis.range->first), place(axis.range->second)};
  return out;
}

json curve(const Curve& curve) {
  json out = {{"type", "scatter"},
              {"mode", curve.style == CurveStyle::marks ? "lines+markers" : "lines"},
              {"name", curve.name},
              {"x", curve.x},
              {"y", curve.y}};
  if (curve.style == CurveStyle::thin) out["line"] = {{"width", 1}};
  return out;
}

json heat_map(const HeatMap& map) {
  json rows = json::array();
  for (size_t row = 0; row < map.rows.size(); ++row) {
    json cells = json::array();
    for (size_t column = 0; column < map.columns.size(); ++column)
      cells.push_back(number(map.values.at(row * map.columns.size() + column)));
    rows.push_back(std::move(cells));
  }
  json scale = json::array();
  for (const detail::Stop& stop : detail::heat_stops)
    scale.push_back({number(stop.place), detail::hex(stop.colour)});
  const auto [least, most] = detail::heat_range(map.values);
  return {{"type", "heatmap"},
          {"x", map.columns},
          {"y", map.rows},
          {"z", std::move(rows)},
          {"zmin", number(least)},
          {"zmax", number(most)},
          {"colorscale", std::move(scale)},
          {"texttemplate", "%{z}"}};
}

}  // namespace

std::string plotly(const Drawing& drawing) {
  if (!drawing.plotly.empty()) return drawing.plotly;
  json data = json::array(), layout = {{"xaxis", axis(drawing.x)}, {"yaxis", axis(drawing.y)}};
  if (drawing.heat_map) {
    data.push_back(heat_map(*drawing.heat_map));
    layout["xaxis"]["type"] = layout["yaxis"]["type"] = "category";
    layout["yaxis"]["autorange"] = "reversed";
  } else {
    for (const Curve& one : drawing.curves) data.push_back(curve(one));
    layout["showlegend"] = true;
  }
  return json{{"data", std::move(data)}, {"layout", std::move(layout)}}.dump(-1, ' ', false,
                                                                             json::error_handler_t::replace);
}

}  // namespace lab
