#pragma once
// The library that draws, where a machine has it: found when the first picture is wanted, never linked.

#include <cairo/cairo.h>

#include <string>

namespace lab::detail {

// Its functions that we call.
// clang-format off
#define LAB_CAIRO_FUNCTIONS(WITH) \
  WITH(image_surface_create) WITH(image_surface_get_data) WITH(image_surface_get_stride) \
  WITH(surface_flush) WITH(surface_mark_dirty) WITH(surface_destroy) WITH(create) WITH(destroy) \
  WITH(status) WITH(status_to_string) WITH(save) WITH(restore) WITH(translate) WITH(rotate) WITH(scale) \
  WITH(rectangle) WITH(clip) WITH(arc) WITH(new_sub_path) WITH(move_to) WITH(line_to) WITH(stroke) \
  WITH(fill) WITH(paint) WITH(set_line_width) WITH(set_line_join) WITH(set_dash) WITH(set_source_rgb) \
  WITH(set_source_surface) WITH(get_source) WITH(pattern_set_filter) WITH(select_font_face) \
  WITH(set_font_size) WITH(text_extents) WITH(show_text)
// clang-format on

struct CairoFunctions {
#define LAB_CAIRO_MEMBER(name) decltype(&cairo_##name) name = nullptr;
  LAB_CAIRO_FUNCTIONS(LAB_CAIRO_MEMBER)
#undef LAB_CAIRO_MEMBER
};

// Throws Unavailable, and says what to install, when there is no such library or it lacks one of them.
CairoFunctions load_cairo(const std::string& library);
// Those of libcairo.so.2, which stays in use from then on. For one thread at a time.
const CairoFunctions& cairo();

}  // namespace lab::detail
