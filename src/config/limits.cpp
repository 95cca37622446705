#include <algorithm>
#include <cctype>

#include "config/parse.h"
#include "lab/core/error.h"
#include "lab/core/text.h"

namespace lab {
namespace {

constexpr size_t most_key_parts = 32;
constexpr size_t most_key_characters = 1024;
constexpr size_t most_nesting = 64;

bool beyond_ascii(char c) { return static_cast<unsigned char>(c) >= 0x80; }

// Goes once over the text and knows just enough of TOML to tell keys from values, strings and comments. Up to
// the first syntax error it sees what the parser will see; what comes after that the parser never reaches.
class Scan {
 public:
  Scan(const std::string& source, const std::string& toml) : source_(source), toml_(toml) {}

  void run() {
    if (toml_.starts_with("\xef\xbb\xbf")) at_ = start_ = 3;  // a byte order mark
    while (at_ < toml_.size()) step();
  }

 private:
  void step() {
    const char c = toml_[at_];
    if (c == '#') return skip_comment();
    if (c == '"' || c == '\'') return skip_string(c);
    ++at_;
    switch (c) {
      case '\n':
        if (open_.empty()) begin_key();
        break;
      case '=':
        in_key_ = false;
        break;
      case '[':
        if (in_key_) {
          check_header();
        } else {
          open(c);
        }
        break;
      case '{':
        open(c);
        begin_key();
        break;
      case ',':
        if (!open_.empty() && open_.back() == '{') begin_key();
        break;
      case ']':
      case '}':
        close(c);
        break;
      case ' ':
      case '\t':
      case '\r':
        break;
      default:
        in_part(c);
    }
  }

  // In place of a key '[' begins a header. The parser takes for granted that a name follows.
  void check_header() const {
    size_t name = at_ + (toml_.compare(at_, 1, "[") == 0 ? 1 : 0);
    name = toml_.find_first_not_of(" \t", name);
    if (name == std::string::npos) return;
    const char c = toml_[name];
    if (std::isalnum(static_cast<unsigned char>(c)) ||
        std::string_view("_-\"']").find(c) != std::string_view::npos)
      return;
    throw ConfigError(place(name), ": after '[' the name of a table is wanted; fix the TOML syntax there");
  }

  void in_part(char c) {
    // The parser's test for blanks is undefined for most of these.
    if (beyond_ascii(c))
      throw ConfigError(place(at_ - 1),
                        ": a character like this one may stand in quotes only; fix the TOML syntax there");
    if (!in_key_) return;
    if (c == '.' && ++key_parts_ > most_key_parts)
      refuse(text("a key of more than ", most_key_parts, " parts"));
    count_characters(1);
  }

  void count_characters(size_t more) {
    if (!in_key_) return;
    if (key_characters_ == 0) key_start_ = at_ - more;
    key_characters_ += more;
    if (key_characters_ > most_key_characters)
      refuse(text("a key of more than ", most_key_characters, " characters"));
  }

  void begin_key() {
    in_key_ = true;
    key_parts_ = 1;
    key_characters_ = 0;
    key_start_ = at_;
  }

  void open(char bracket) {
    open_ += bracket;
    if (open_.size() <= most_nesting) return;
    key_start_ = at_ - 1;
    refuse(text("arrays and tables nested more than ", most_nesting, " deep"));
  }

  void close(char bracket) {
    if (!open_.empty() && (open_.back() == '[') != (bracket == ']'))
      throw ConfigError(place(at_ - 1), ": '", bracket, "' cannot close '", open_.back(),
                        "'; fix the TOML syntax there");
    if (!open_.empty()) open_.pop_back();
    in_key_ = false;
  }

  void skip_comment() { at_ = std::min(toml_.find('\n', at_), toml_.size()); }

  void skip_string(char quote) {
    const size_t begin = at_;
    const std::string_view before = in_key_ ? std::string_view(" \t\n[{,.") : std::string_view(" \t\n[=,");
    if (begin > start_ && before.find(toml_[begin - 1]) == std::string_view::npos)
      throw ConfigError(place(begin),
                        ": a quote cannot stand in the middle of a word; fix the TOML syntax there");
    const bool long_string = toml_.compare(at_, 3, std::string(3, quote)) == 0;
    const size_t quotes = long_string ? 3 : 1;
    for (at_ += quotes; at_ < toml_.size(); ++at_) {
      if (toml_[at_] == '\n' && !long_string) break;  // not closed: the parser will say so
      if (toml_[at_] == '\\' && quote == '"') {
        if (long_string) check_continuation();
        ++at_;
      } else if (toml_.compare(at_, quotes, std::string(quotes, quote)) == 0) {
        at_ += quotes;
        break;
      }
    }
    // A long string may end in up to two quotes of its own.
    for (int i = 0; long_string && i < 2 && at_ < toml_.size() && toml_[at_] == quote; ++i) ++at_;
    at_ = std::min(at_, toml_.size());
    count_characters(at_ - begin);
  }

  // A backslash at the end of a line takes away the blanks at the start of the next one. There, too, the
  // parser tests for blanks.
  void check_continuation() const {
    const size_t next = toml_.find_first_not_of(" \t\r\n", at_ + 1);
    if (next != std::string::npos && beyond_ascii(toml_[next]))
      throw ConfigError(place(next),
                        ": after a backslash, also on the next line, an ASCII character is wanted; ",
                        "move the backslash");
  }

  std::string place(size_t offset) const {
    const auto at = toml_.begin() + static_cast<std::ptrdiff_t>(offset);
    const auto line_begin = std::find(std::make_reverse_iterator(at), toml_.rend(), '\n').base();
    const auto begins_character = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; };
    return text(source_, ":", std::count(toml_.begin(), at, '\n') + 1, ":",
                std::count_if(line_begin, at, begins_character) + 1);
  }

  [[noreturn]] void refuse(const std::string& what) const {
    throw ConfigError(place(key_start_), ": ", what, "; is this a config file?");
  }

  const std::string& source_;
  const std::string& toml_;
  size_t at_ = 0, start_ = 0;
  std::string open_;  // the brackets we are in
  bool in_key_ = true;
  size_t key_parts_ = 1, key_characters_ = 0, key_start_ = 0;
};

}  // namespace

void refuse_absurd_toml(const std::string& source, const std::string& toml) { Scan(source, toml).run(); }

}  // namespace lab
