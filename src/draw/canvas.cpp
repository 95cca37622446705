#include "draw/canvas.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numbers>

#include "draw/png.h"
#include "lab/core/error.h"
#include "lab/core/utf8.h"

namespace lab::detail {
namespace {
uint32_t packed(Colour c) { return uint32_t{c.red} << 16 | uint32_t{c.green} << 8 | c.blue; }
}  // namespace

std::string shown(const std::string& text) {
  using nlohmann::json;
  std::string out =
      json::parse(json(text).dump(-1, ' ', false, json::error_handler_t::replace)).get<std::string>();
  for (char& c : out)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  return out;
}

Canvas::Canvas(int width, int height)
    : call_(cairo()),
      width_(width),
      height_(height),
      surface_(call_.image_surface_create(CAIRO_FORMAT_RGB24, width, height)),
      context_(call_.create(surface_)) {
  call_.select_font_face(context_, "sans", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
  call_.set_line_join(context_, CAIRO_LINE_JOIN_ROUND);
  fill({0, 0, static_cast<double>(width), static_cast<double>(height)}, white);
}

Canvas::~Canvas() {
  call_.destroy(context_);
  call_.surface_destroy(surface_);
}

void Canvas::colour(Colour c) {
  call_.set_source_rgb(context_, c.red / 255.0, c.green / 255.0, c.blue / 255.0);
}

void Canvas::clip(const Box& box) {
  call_.save(context_);
  call_.rectangle(context_, box.left, box.top, box.width, box.height);
  call_.clip(context_);
}

void Canvas::unclip() { call_.restore(context_); }

void Canvas::line(std::span<const Point> points, Colour c, double width, const std::vector<double>& dashes) {
  colour(c);
  call_.set_line_width(context_, width);
  call_.set_dash(context_, dashes.data(), static_cast<int>(dashes.size()), 0);
  for (size_t i = 0; i < points.size(); ++i)
    (i == 0 ? call_.move_to : call_.line_to)(context_, points[i].x, points[i].y);
  call_.stroke(context_);
}

// In the middle of its pixels, so that it is sharp.
void Canvas::frame(const Box& box, Colour c, double width) {
  const double left = std::round(box.left) - 0.5, top = std::round(box.top) - 0.5;
  const double right = std::round(box.right()) + 0.5, bottom = std::round(box.bottom()) + 0.5;
  line(std::vector<Point>{{left, top}, {right, top}, {right, bottom}, {left, bottom}, {left, top}}, c, width);
}

void Canvas::fill(const Box& box, Colour c) {
  colour(c);
  call_.rectangle(context_, box.left, box.top, box.width, box.height);
  call_.fill(context_);
}

void Canvas::dots(std::span<const Point> points, Colour c, double radius) {
  colour(c);
  for (const auto& [x, y] : points) {
    call_.new_sub_path(context_);
    call_.arc(context_, x, y, radius, 0, 2 * std::numbers::pi);
  }
  call_.fill(context_);
}

void Canvas::cells(const Box& box, std::span<const Colour> colours, size_t columns) {
  const size_t rows = colours.size() / columns;
  cairo_surface_t* small =
      call_.image_surface_create(CAIRO_FORMAT_RGB24, static_cast<int>(columns), static_cast<int>(rows));
  if (unsigned char* data = call_.image_surface_get_data(small)) {
    const auto stride = static_cast<size_t>(call_.image_surface_get_stride(small));
    for (size_t i = 0; i < rows * columns; ++i) {
      const uint32_t pixel = packed(colours[i]);
      std::memcpy(data + i / columns * stride + i % columns * sizeof pixel, &pixel, sizeof pixel);
    }
    call_.surface_mark_dirty(small);
  }
  const double across = box.width / static_cast<double>(columns),
               down = box.height / static_cast<double>(rows);
  clip(box);
  call_.translate(context_, box.left, box.top);
  call_.scale(context_, across, down);
  call_.set_source_surface(context_, small, 0, 0);
  call_.pattern_set_filter(call_.get_source(context_),
                           std::min(across, down) >= 1 ? CAIRO_FILTER_NEAREST : CAIRO_FILTER_GOOD);
  call_.paint(context_);
  unclip();
  call_.surface_destroy(small);
}

double Canvas::width_of(const std::string& text, double size) {
  cairo_text_extents_t extents{};
  call_.set_font_size(context_, size);
  call_.text_extents(context_, text.c_str(), &extents);
  return extents.x_advance;
}

void Canvas::text(const std::string& text, Point at, double size, Align align, Colour c) {
  constexpr double half_a_digit = 0.36;  // of the size
  const double width = width_of(text, size);
  const double left = at.x - (align == Align::begin ? 0 : align == Align::end ? width : width / 2);
  colour(c);
  call_.move_to(context_, left, at.y + half_a_digit * size);
  call_.show_text(context_, text.c_str());
}

void Canvas::vertical_text(const std::string& what, Point at, double size, Align align, Colour c) {
  call_.save(context_);
  call_.translate(context_, at.x, at.y);
  call_.rotate(context_, -std::numbers::pi / 2);
  text(what, {}, size, align, c);
  call_.restore(context_);
}

std::string Canvas::cut(const std::string& text, double size, double most) {
  if (width_of(text, size) <= most) return text;
  std::string best = "…";
  for (size_t low = 0, high = text.size(); low < high;) {
    const size_t bytes = (low + high + 1) / 2;
    const std::string tried = utf8_prefix(text, bytes) + "…";
    if (width_of(tried, size) <= most) {
      best = tried;
      low = bytes;
    } else {
      high = bytes - 1;
    }
  }
  return best;
}

Picture Canvas::picture() const {
  call_.surface_flush(surface_);
  const auto status = call_.status(context_);
  const unsigned char* data = call_.image_surface_get_data(surface_);
  if (status != CAIRO_STATUS_SUCCESS || data == nullptr)
    throw Unavailable("cairo could not draw a picture: ", call_.status_to_string(status));
  const auto stride = static_cast<size_t>(call_.image_surface_get_stride(surface_));
  const auto columns = static_cast<size_t>(width_);
  std::vector<uint32_t> pixels(columns * static_cast<size_t>(height_));
  for (size_t row = 0; row < static_cast<size_t>(height_); ++row)
    std::memcpy(pixels.data() + row * columns, data + row * stride, columns * sizeof(uint32_t));
  return {width_, height_, png(pixels, width_, height_)};
}

}  // namespace lab::detail
