#pragma once
// A white sheet of pixels, and what can be put on it. Places are in pixels from its upper left corner.

#include <span>
#include <string>
#include <vector>

#include "draw/cairo.h"
#include "draw/colours.h"
#include "lab/draw/picture.h"

namespace lab::detail {

struct Point {
  double x = 0, y = 0;
};
struct Box {
  double left = 0, top = 0, width = 0, height = 0;
  double right() const { return left + width; }
  double bottom() const { return top + height; }
};

enum class Align { begin, middle, end };

// One thread. Throws Unavailable where cairo is missing.
class Canvas {
 public:
  Canvas(int width, int height);
  ~Canvas();
  Canvas(const Canvas&) = delete;
  Canvas& operator=(const Canvas&) = delete;

  // Lines that are drawn from now on stay within it; unclip() ends that.
  void clip(const Box& box);
  void unclip();
  void line(std::span<const Point> points, Colour colour, double width,
            const std::vector<double>& dashes = {});
  void frame(const Box& box, Colour colour, double width = 1);
  void fill(const Box& box, Colour colour);
  void dots(std::span<const Point> points, Colour colour, double radius);
  // The colours row by row, all cells of one size.
  void cells(const Box& box, std::span<const Colour> colours, size_t columns);

  // How wide it will be. For names, see `shown`.
  double width_of(const std::string& text, double size);
  // The point is at the beginning, the middle or the end of the text, halfway up its digits.
  void text(const std::string& text, Point at, double size, Align align, Colour colour = ink);
  // From the bottom up.
  void vertical_text(const std::string& text, Point at, double size, Align align, Colour colour = ink);
  // The text, or its beginning with "…", in so many pixels.
  std::string cut(const std::string& text, double size, double most);

  // Throws Unavailable when something that was drawn has failed.
  Picture picture() const;

 private:
  void colour(Colour colour);

  const CairoFunctions& call_;
  int width_, height_;
  cairo_surface_t* surface_;
  cairo_t* context_;
};

// Text as cairo takes it, which refuses all of one that is no UTF-8: on one line, with signs instead of what
// is none.
std::string shown(const std::string& text);

}  // namespace lab::detail
