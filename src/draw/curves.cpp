#include <algorithm>
#include <cmath>
#include <limits>

#include "draw/canvas.h"
#include "draw/layouts.h"
#include "draw/ticks.h"

namespace lab::detail {
namespace {

constexpr double text_size = 13, title_size = 15, gap = 8;
constexpr double plot_width = 560, plot_height = 380;
constexpr double legend_row = 19, legend_sample = 26, longest_name = 230;

// An axis with its ends known.
struct Scale {
  double least = 0, most = 1;
  bool logarithmic = false, whole = false;

  // 0 to 1; not finite: nowhere.
  double place(double value) const {
    if (!logarithmic) return (value - least) / (most - least);
    return value > 0 ? std::log(value / least) / std::log(most / least)
                     : std::numeric_limits<double>::quiet_NaN();
  }
  std::vector<Tick> marks(int wanted) const {
    return logarithmic ? logarithmic_ticks(least, most, wanted) : ticks(least, most, wanted, whole);
  }
};

using Values = std::vector<double> Curve::*;

constexpr double largest = 1e300;  // differences of what is larger may be infinite

// The least and the most of all that is seen; the first is the larger one where nothing is.
std::pair<double, double> ends_of(const std::vector<Curve>& curves, Values values, bool logarithmic) {
  double least = std::numeric_limits<double>::infinity(), most = -least;
  for (const Curve& curve : curves)
    for (const double value : curve.*values) {
      if (!(std::abs(value) < largest) || (logarithmic && value < 1 / largest)) continue;
      least = std::min(least, value);
      most = std::max(most, value);
    }
  return {least, most};
}

// As the axis says, or as far as the points go; `air` is the share that is left free there.
Scale scale_of(const Axis& axis, const std::vector<Curve>& curves, Values values, double air) {
  if (axis.range && axis.range->first < axis.range->second &&
      !(axis.logarithmic && axis.range->first < 1 / largest))
    return {axis.range->first, axis.range->second, axis.logarithmic, axis.whole};
  const auto [least, most] = ends_of(curves, values, axis.logarithmic);
  if (least > most) return {axis.logarithmic ? 0.1 : 0, 1, axis.logarithmic, axis.whole};
  if (axis.logarithmic) {
    const double factor = most / least < 1.01 ? 2 : std::pow(most / least, air);
    return {least / factor, most * factor, true, axis.whole};
  }
  const double wide = most - least;
  const double more = wide > 1e-9 * std::abs(most) ? air * wide : most == 0 ? 1 : std::abs(most) / 2;
  return {least - more, most + more, false, axis.whole};
}

// Of points that lie closer than pixels, those that change the picture: of each column the first, the lowest,
// the highest and the last.
std::vector<Point> thinned(const std::vector<Point>& points) {
  if (points.size() < 4 * static_cast<size_t>(plot_width)) return points;
  std::vector<Point> out;
  for (size_t first = 0; first < points.size();) {
    size_t last = first, low = first, high = first;
    for (size_t i = first; i < points.size() && std::floor(points[i].x) == std::floor(points[first].x); ++i) {
      if (points[i].y < points[low].y) low = i;
      if (points[i].y > points[high].y) high = i;
      last = i;
    }
    std::vector<size_t> some = {first, std::min(low, high), std::max(low, high), last};
    some.erase(std::ranges::unique(some).begin(), some.end());
    for (const size_t i : some) out.push_back(points[i]);
    first = last + 1;
  }
  return out;
}

// Each has its own, but a thin one that of the curve behind it, of which it shows the details.
std::vector<size_t> colours_of(const std::vector<Curve>& curves) {
  std::vector<size_t> out;
  size_t next = 0;
  for (size_t i = 0; i < curves.size(); ++i) {
    out.push_back(next);
    const bool shared = curves[i].style == CurveStyle::thin && i + 1 < curves.size() &&
                        curves[i + 1].style != CurveStyle::thin;
    if (!shared) ++next;
  }
  return out;
}

void draw_curve(Canvas& sheet, const Curve& curve, const std::vector<Point>& points, size_t index) {
  const Colour colour = curve_colours[index % curve_colours.size()];
  const size_t round = index / curve_colours.size();
  const std::vector<double> dashes = round == 0       ? std::vector<double>{}
                                     : round % 2 == 1 ? std::vector<double>{7, 3}
                                                      : std::vector<double>{2, 2};
  if (curve.style == CurveStyle::thin)
    sheet.line(thinned(points), mixed(white, colour, 0.45), 1);
  else
    sheet.line(thinned(points), colour, 2, dashes);
  if (curve.style == CurveStyle::marks || points.size() == 1) sheet.dots(points, colour, 3.5);
}

// Pieces between points that are nowhere.
void draw_pieces(Canvas& sheet, const Curve& curve, size_t index, const Scale& x, const Scale& y,
                 const Box& box) {
  std::vector<Point> piece;
  for (size_t i = 0; i < std::min(curve.x.size(), curve.y.size()); ++i) {
    const Point at{box.left + x.place(curve.x[i]) * box.width,
                   box.bottom() - y.place(curve.y[i]) * box.height};
    if (std::isfinite(at.x) && std::isfinite(at.y)) {
      piece.push_back(at);
      continue;
    }
    if (!piece.empty()) draw_curve(sheet, curve, piece, index);
    piece.clear();
  }
  if (!piece.empty()) draw_curve(sheet, curve, piece, index);
}

void draw_grid(Canvas& sheet, const std::vector<Tick>& across, const std::vector<Tick>& up, const Scale& x,
               const Scale& y, const Box& box) {
  double free_from = -1;  // where the last number of the x-axis ends
  for (const auto& [value, name] : across) {
    const double at = std::round(box.left + x.place(value) * box.width);
    sheet.fill({at, box.top, 1, box.height}, light_grey);
    const double half = sheet.width_of(name, text_size) / 2;
    if (at - half < free_from) continue;
    free_from = at + half + gap;
    sheet.text(name, {at, box.bottom() + gap + text_size / 2}, text_size, Align::middle);
  }
  for (const auto& [value, name] : up) {
    const double at = std::round(box.bottom() - y.place(value) * box.height);
    sheet.fill({box.left, at, box.width, 1}, light_grey);
    sheet.text(name, {box.left - gap, at}, text_size, Align::end);
  }
}

// The curves that the legend names.
struct Legend {
  std::vector<size_t> curves;
  std::vector<std::string> names;
  std::string rest;  // "and 76 more"
  double width = 0;
};
Legend legend_of(Canvas& sheet, const std::vector<Curve>& curves) {
  Legend out;
  for (size_t i = 0; i < curves.size(); ++i)
    if (!curves[i].name.empty()) out.curves.push_back(i);
  const auto rows = static_cast<size_t>(plot_height / legend_row);
  if (out.curves.size() > rows) {
    out.rest = text("and ", out.curves.size() - rows + 1, " more");
    out.curves.resize(rows - 1);
  }
  for (const size_t i : out.curves) {
    out.names.push_back(sheet.cut(shown(curves[i].name), text_size, longest_name));
    out.width = std::max(out.width, legend_sample + gap + sheet.width_of(out.names.back(), text_size));
  }
  if (!out.curves.empty()) out.width += 3 * gap;
  return out;
}

void draw_legend(Canvas& sheet, const Legend& legend, const std::vector<Curve>& curves, const Box& box) {
  const double left = box.right() + 2 * gap;
  double y = box.top + legend_row / 2;
  for (size_t i = 0; i < legend.curves.size(); ++i, y += legend_row) {
    const Curve& curve = curves[legend.curves[i]];
    draw_curve(sheet, curve, {{left, y}, {left + legend_sample, y}}, colours_of(curves)[legend.curves[i]]);
    sheet.text(legend.names[i], {left + legend_sample + gap, y}, text_size, Align::begin);
  }
  if (!legend.rest.empty()) sheet.text(legend.rest, {left, y}, text_size, Align::begin, grey);
}

double widest(Canvas& sheet, const std::vector<Tick>& marks) {
  double out = 0;
  for (const Tick& mark : marks) out = std::max(out, sheet.width_of(mark.text, text_size));
  return out;
}

void write_titles(Canvas& sheet, const Drawing& drawing, const Box& box, double width) {
  sheet.text(sheet.cut(shown(drawing.title), title_size, width - box.left - gap),
             {box.left, gap + title_size / 2 + 2}, title_size, Align::begin);
  sheet.text(sheet.cut(shown(drawing.x.title), text_size, box.width),
             {box.left + box.width / 2, box.bottom() + 2 * gap + 1.5 * text_size}, text_size, Align::middle);
  sheet.vertical_text(sheet.cut(shown(drawing.y.title), text_size, box.height),
                      {gap + text_size / 2, box.top + box.height / 2}, text_size, Align::middle);
}

}  // namespace

Picture curves_picture(const Drawing& drawing) {
  Canvas measure(1, 1);
  const Scale x = scale_of(drawing.x, drawing.curves, &Curve::x, 0.02);
  const Scale y = scale_of(drawing.y, drawing.curves, &Curve::y, 0.05);
  const auto across = x.marks(8), up = y.marks(6);
  const Legend legend = legend_of(measure, drawing.curves);
  const Box box{std::ceil(gap + text_size + 2 * gap + widest(measure, up)), std::ceil(title_size + 3 * gap),
                plot_width, plot_height};
  const double width = std::ceil(box.right() + std::max(legend.width, 3 * gap));
  Canvas sheet(static_cast<int>(width), static_cast<int>(std::ceil(box.bottom() + 3 * gap + 2 * text_size)));
  draw_grid(sheet, across, up, x, y, box);
  sheet.frame(box, grey);
  constexpr double half_a_line = 4;
  sheet.clip({box.left - half_a_line, box.top - half_a_line, box.width + 2 * half_a_line,
              box.height + 2 * half_a_line});
  const auto colours = colours_of(drawing.curves);
  for (size_t i = 0; i < colours.size(); ++i) draw_pieces(sheet, drawing.curves[i], colours[i], x, y, box);
  sheet.unclip();
  draw_legend(sheet, legend, drawing.curves, box);
  write_titles(sheet, drawing, box, width);
  return sheet.picture();
}

}  // namespace lab::detail
