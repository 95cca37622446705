#include "app/python_list.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <string_view>

namespace lab {
namespace {

using Json = nlohmann::ordered_json;
constexpr int deepest = 50;

std::string utf8_of(uint32_t code) {
  const auto tail = [code](int shift) { return static_cast<char>(0x80 | ((code >> shift) & 0x3f)); };
  if (code < 0x80) return {static_cast<char>(code)};
  if (code < 0x800) return {static_cast<char>(0xc0 | (code >> 6)), tail(0)};
  if (code < 0x10000) return {static_cast<char>(0xe0 | (code >> 12)), tail(6), tail(0)};
  return {static_cast<char>(0xf0 | (code >> 18)), tail(12), tail(6), tail(0)};
}

// Reads from the front of `left`. Each function returns nothing where the text is not what it reads.
class Reader {
 public:
  explicit Reader(std::string_view text) : left_(text) {}

  std::optional<Json> whole() {
    skip_blanks();
    auto found = left_.starts_with('[') ? list(0) : std::nullopt;
    skip_blanks();
    return left_.empty() ? found : std::nullopt;
  }

 private:
  bool took(std::string_view word) {
    if (!left_.starts_with(word)) return false;
    left_.remove_prefix(word.size());
    return true;
  }
  void skip_blanks() {
    while (took(" ") || took("\t") || took("\n") || took("\r")) {
    }
  }

  std::optional<Json> value(int depth) {
    if (left_.starts_with('[')) return list(depth + 1);
    if (left_.starts_with('\'') || left_.starts_with('"')) return string();
    if (took("True")) return true;
    if (took("False")) return false;
    const std::string_view word = left_.substr(0, left_.find_first_of(",] \t\r\n"));
    const Json number = Json::parse(word, nullptr, false);
    if (!number.is_number()) return std::nullopt;
    left_.remove_prefix(word.size());
    return number;
  }

  std::optional<Json> list(int depth) {
    Json items = Json::array();
    took("[");
    for (skip_blanks(); depth < deepest && !took("]"); skip_blanks()) {
      const auto item = value(depth);
      if (!item) return std::nullopt;
      items.push_back(*item);
      skip_blanks();
      if (!took(",") && !left_.starts_with(']')) return std::nullopt;
    }
    return depth < deepest ? std::optional(items) : std::nullopt;
  }

  std::optional<Json> string() {
    const char quote = left_.front();
    left_.remove_prefix(1);
    std::string out;
    while (!left_.empty()) {
      const char c = left_.front();
      left_.remove_prefix(1);
      if (c == quote) return Json(out);
      const auto piece = c == '\\' ? escaped() : std::optional(std::string(1, c));
      if (!piece) return std::nullopt;
      out += *piece;
    }
    return std::nullopt;
  }

  // What stands behind a backslash.
  std::optional<std::string> escaped() {
    constexpr std::string_view names = "\\'\"nrt", characters = "\\'\"\n\r\t";
    const char name = left_.empty() ? '?' : left_.front();
    left_.remove_prefix(left_.empty() ? 0 : 1);
    if (const size_t at = names.find(name); at != std::string_view::npos)
      return std::string(1, characters[at]);
    const size_t digits = name == 'x' ? 2 : name == 'u' ? 4 : name == 'U' ? 8 : 0;
    uint32_t code = 0;
    const char* end = left_.data() + std::min(digits, left_.size());
    const auto [last, problem] = std::from_chars(left_.data(), end, code, 16);
    const bool is_surrogate = code >= 0xd800 && code < 0xe000;
    if (digits == 0 || left_.size() < digits || last != end || problem != std::errc() || code > 0x10ffff ||
        is_surrogate)
      return std::nullopt;
    left_.remove_prefix(digits);
    return utf8_of(code);
  }

  std::string_view left_;
};

}  // namespace

std::optional<nlohmann::ordered_json> python_list(const std::string& text) { return Reader(text).whole(); }

}  // namespace lab
