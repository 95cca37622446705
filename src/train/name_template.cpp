#include "lab/train/name_template.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "lab/core/text.h"

namespace lab {
namespace {

bool is_whole_number(const std::string& field) { return field == "epoch" || field == "step"; }

// At most two digits at the front of `text`, which are taken away; -1: there are none.
int take_number(std::string_view& text) {
  int number = -1;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + std::min<size_t>(text.size(), 2), number);
  if (error != std::errc()) return -1;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return number;
}

}  // namespace

bool NameTemplate::read_format(const std::string& format, Piece& piece) {
  std::string_view rest = format;
  piece.zeros = rest.starts_with('0');
  piece.width = std::max(take_number(rest), 0);
  if (rest.starts_with('.')) {
    rest.remove_prefix(1);
    piece.digits = take_number(rest);
    if (piece.digits < 0) return false;
  }
  if (rest.size() == 1) {
    piece.form = rest.front();
    rest = {};
  }
  const std::string_view forms = is_whole_number(piece.field) ? "d" : "feg";
  const bool fits = piece.form == 0 ? piece.digits < 0 : forms.find(piece.form) != std::string_view::npos;
  return rest.empty() && fits && (piece.form != 'd' || piece.digits < 0);
}

std::optional<NameTemplate> NameTemplate::parse(const std::string& text) {
  NameTemplate out;
  bool tells_apart = false;
  for (size_t at = 0; at < text.size();) {
    const size_t open = std::min(text.find('{', at), text.size());
    Piece piece;
    piece.text = text.substr(at, open - at);
    if (piece.text.find_first_of("/}\n") != std::string::npos) return std::nullopt;
    at = open;
    if (open < text.size()) {
      const size_t close = text.find('}', open);
      if (close == std::string::npos) return std::nullopt;
      const std::string inside = text.substr(open + 1, close - open - 1);
      const size_t colon = inside.rfind(':');
      piece.field = inside.substr(0, colon);
      if (piece.field.empty()) return std::nullopt;
      if (colon != std::string::npos && !read_format(inside.substr(colon + 1), piece)) return std::nullopt;
      tells_apart = tells_apart || is_whole_number(piece.field);
      at = close + 1;
    }
    out.pieces_.push_back(std::move(piece));
  }
  // "epoch=" and the like are what every checkpoint is called.
  if (!tells_apart || out.pieces_.front().text == "epoch=" || text.starts_with('.')) return std::nullopt;
  return out;
}

std::vector<std::string> NameTemplate::tags() const {
  std::vector<std::string> tags;
  for (const Piece& piece : pieces_)
    if (!piece.field.empty() && !is_whole_number(piece.field)) tags.push_back(piece.field);
  return tags;
}

std::string NameTemplate::written(const Piece& piece, double value) {
  std::array<char, 512> digits{};  // the longest double has 309 before its point, and 99 behind it
  const auto form = piece.form == 'e'   ? std::chars_format::scientific
                    : piece.form == 'g' ? std::chars_format::general
                                        : std::chars_format::fixed;
  std::string out;
  if (is_whole_number(piece.field))
    out = std::to_string(static_cast<int64_t>(value));
  else if (piece.form == 0)
    out = shortest(value);
  else
    out = {digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), value, form,
                                        piece.digits < 0 ? 6 : piece.digits)
                              .ptr};
  const size_t sign = out.starts_with('-') && piece.zeros ? 1 : 0;
  const auto width = static_cast<size_t>(piece.width);
  if (out.size() < width)
    out.insert(sign, width - out.size(), piece.zeros && std::isfinite(value) ? '0' : ' ');
  return out;
}

std::string NameTemplate::name(int64_t epoch, int64_t step, const Values& values) const {
  std::string out;
  for (const Piece& piece : pieces_) {
    out += piece.text;
    if (piece.field.empty()) continue;
    const double value =
        piece.field == "epoch" ? static_cast<double>(epoch)
        : piece.field == "step"
            ? static_cast<double>(step)
            : value_of(values, piece.field).value_or(std::numeric_limits<double>::quiet_NaN());
    out += written(piece, value);
  }
  return out;
}

}  // namespace lab
