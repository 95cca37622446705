#include <algorithm>
#include <cmath>

#include "draw/canvas.h"
#include "draw/layouts.h"
#include "draw/ticks.h"

namespace lab::detail {
namespace {

constexpr double text_size = 13, title_size = 15, gap = 8;
constexpr double longest_name = 170;  // pixels
constexpr double bar_width = 14, bar_room = 70;

// Names along one side: how large, and that of every how-manieth row or column.
struct Labels {
  double size = text_size;
  size_t every = 1;
  std::vector<std::string> names;  // cut
  double widest = 0;
};

// Where cells are lower than letters, some names are left out.
Labels labels_of(Canvas& sheet, const std::vector<std::string>& names, double cell) {
  constexpr double least_size = 10;
  Labels out;
  out.size = std::clamp(cell * 0.8, least_size, text_size);
  for (const size_t every : {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000}) {
    out.every = every;
    if (cell * static_cast<double>(every) >= out.size + 1) break;
  }
  for (size_t i = 0; i < names.size(); ++i) {
    out.names.push_back(i % out.every == 0 ? sheet.cut(shown(names[i]), out.size, longest_name) : "");
    out.widest = std::max(out.widest, sheet.width_of(out.names.back(), out.size));
  }
  return out;
}

// The numbers as texts, and how large they are in the cells; 0: they are not readable there.
struct Numbers {
  std::vector<std::string> texts;
  double size = 0;
};
Numbers numbers_in(Canvas& sheet, const HeatMap& map, double cell) {
  constexpr double least_size = 8, margin = 5;
  if (cell < 14) return {};
  Numbers out;
  double widest = 1;
  for (const double value : map.values) {
    out.texts.push_back(short_number(std::isfinite(value) ? value : 0));
    widest = std::max(widest, sheet.width_of(out.texts.back(), text_size));
  }
  const double fits = std::min({text_size, text_size * (cell - margin) / widest, cell * 0.6});
  out.size = fits >= least_size ? fits : 0;
  return out;
}

double cell_side(const HeatMap& map) {
  const double most = static_cast<double>(std::max(map.rows.size(), map.columns.size()));
  const double side = std::clamp(most * 26, 440.0, 840.0);
  return most > side ? side / most : std::min(90.0, std::floor(side / most));
}

std::vector<Colour> colours_of(const HeatMap& map) {
  const auto [least, most] = heat_range(map.values);
  std::vector<Colour> out;
  for (const double value : map.values)
    out.push_back(heat_colour(std::isfinite(value) ? (value - least) / (most - least) : 0));
  return out;
}

void grid(Canvas& sheet, const Box& map, size_t columns, size_t rows, double cell) {
  if (cell >= 12) {
    for (size_t i = 1; i < columns; ++i)
      sheet.fill({map.left + static_cast<double>(i) * cell, map.top, 1, map.height}, light_grey);
    for (size_t i = 1; i < rows; ++i)
      sheet.fill({map.left, map.top + static_cast<double>(i) * cell, map.width, 1}, light_grey);
  }
  sheet.frame(map, grey);
}

void write_numbers(Canvas& sheet, const HeatMap& map, const Numbers& numbers,
                   const std::vector<Colour>& colours, const Box& box, double cell) {
  for (size_t i = 0; i < numbers.texts.size(); ++i) {
    const double column = static_cast<double>(i % map.columns.size()),
                 row = static_cast<double>(i / map.columns.size());
    const Colour colour = dark(colours[i]) ? white : map.values[i] == 0 ? mixed(white, grey, 0.7) : ink;
    sheet.text(numbers.texts[i], {box.left + (column + 0.5) * cell, box.top + (row + 0.5) * cell},
               numbers.size, Align::middle, colour);
  }
}

// What colours stand for, where no cell says it.
void colour_bar(Canvas& sheet, const HeatMap& map, const Box& box) {
  std::vector<Colour> colours;
  for (int i = 255; i >= 0; --i) colours.push_back(heat_colour(i / 255.0));
  const auto [least, most] = heat_range(map.values);
  const double height = std::min(box.height, 300.0);
  const Box bar{box.right() + 2 * gap, box.top, bar_width, height};
  sheet.cells(bar, colours, 1);
  sheet.frame(bar, grey);
  for (const auto& [value, name] : ticks(least, most, 5)) {
    const double y = bar.bottom() - (value - least) / (most - least) * height;
    sheet.text(name, {bar.right() + gap, y}, text_size - 1, Align::begin);
  }
}

// Everything's place.
struct Places {
  Box map;
  double cell = 0;
  Labels rows, columns;
  bool upright = false;  // the columns' names
  double below = 0;      // the room that they take
};
Places places_of(Canvas& sheet, const HeatMap& map) {
  Places out;
  out.cell = cell_side(map);
  out.rows = labels_of(sheet, map.rows, out.cell);
  out.columns = labels_of(sheet, map.columns, out.cell);
  out.upright = out.columns.widest + 4 > out.cell * static_cast<double>(out.columns.every);
  out.below = out.upright ? out.columns.widest : out.columns.size;
  out.map = {std::ceil(3 * gap + text_size + out.rows.widest + gap), std::ceil(title_size + 3 * gap),
             out.cell * static_cast<double>(map.columns.size()),
             out.cell * static_cast<double>(map.rows.size())};
  return out;
}

void write_names(Canvas& sheet, const Drawing& drawing, const Places& at) {
  const Box& map = at.map;
  for (size_t i = 0; i < at.rows.names.size(); ++i)
    sheet.text(at.rows.names[i], {map.left - gap, map.top + (static_cast<double>(i) + 0.5) * at.cell},
               at.rows.size, Align::end);
  for (size_t i = 0; i < at.columns.names.size(); ++i) {
    const double x = map.left + (static_cast<double>(i) + 0.5) * at.cell;
    if (at.upright)
      sheet.vertical_text(at.columns.names[i], {x, map.bottom() + gap}, at.columns.size, Align::end);
    else
      sheet.text(at.columns.names[i], {x, map.bottom() + gap + at.columns.size / 2}, at.columns.size,
                 Align::middle);
  }
  sheet.text(sheet.cut(shown(drawing.x.title), text_size, map.width),
             {map.left + map.width / 2, map.bottom() + 3 * gap + at.below}, text_size, Align::middle);
  sheet.vertical_text(sheet.cut(shown(drawing.y.title), text_size, map.height),
                      {gap + text_size / 2, map.top + map.height / 2}, text_size, Align::middle);
}

}  // namespace

Picture heat_map_picture(const Drawing& drawing) {
  const HeatMap& map = *drawing.heat_map;
  Canvas measure(1, 1);
  const Places at = places_of(measure, map);
  const Numbers numbers = numbers_in(measure, map, at.cell);
  const std::string title = shown(drawing.title);
  const double right = numbers.size > 0 ? 2 * gap : bar_room + 2 * gap;
  const double width =
      std::max(at.map.right() + right, std::min(measure.width_of(title, title_size) + 2 * gap, 600.0));
  Canvas sheet(static_cast<int>(std::ceil(width)),
               static_cast<int>(std::ceil(at.map.bottom() + at.below + 4 * gap + text_size)));
  const std::vector<Colour> colours = colours_of(map);
  sheet.cells(at.map, colours, map.columns.size());
  grid(sheet, at.map, map.columns.size(), map.rows.size(), at.cell);
  if (numbers.size > 0)
    write_numbers(sheet, map, numbers, colours, at.map, at.cell);
  else
    colour_bar(sheet, map, at.map);
  write_names(sheet, drawing, at);
  const double room = width - 2 * gap, takes = measure.width_of(title, title_size);
  const double left = std::max(gap, std::min(at.map.left, width - gap - takes));
  sheet.text(sheet.cut(title, title_size, room), {left, gap + title_size / 2 + 2}, title_size, Align::begin);
  return sheet.picture();
}

}  // namespace lab::detail
