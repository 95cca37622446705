#include "track/hocon.h"

#include <algorithm>
#include <string_view>

#include "lab/core/error.h"
#include "track/hocon_tree.h"

namespace lab::detail {
namespace {

constexpr int deepest = 64;
constexpr size_t most_bytes = size_t{1} << 20;

bool is_blank(char c) { return c == ' ' || c == '\t'; }
bool is_line_end(char c) { return c == '\n' || c == '\r'; }

// Letters and digits of any language, and what the SDK allows besides.
bool is_key(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte >= 0x80 || (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') ||
         (byte >= 'A' && byte <= 'Z') || std::string_view("._- /").find(c) != std::string_view::npos;
}

bool is_unquoted(char c) {
  return std::string_view("^`+?!@*&\"[{ \t\r\n\f\v]}#,=$\\").find(c) == std::string_view::npos;
}

// The escapes that the SDK knows; it leaves others as they are, \u0041 among them.
std::string unescaped(std::string_view from) {
  std::string out;
  for (size_t i = 0; i < from.size(); ++i) {
    if (from[i] != '\\' || i + 1 == from.size()) {
      out += from[i];
      continue;
    }
    const char next = from[++i];
    if (next == 'n')
      out += '\n';
    else if (next == 'r')
      out += '\r';
    else if (next == 't')
      out += '\t';
    else if (std::string_view("\\=#!\"").find(next) != std::string_view::npos)
      out += next;
    else
      out.append({'\\', next});
  }
  return out;
}

bool same_letters(std::string_view a, std::string_view lower) {
  return std::ranges::equal(a, lower, {}, [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
}

std::vector<std::string> split_path(std::string_view path) {
  std::vector<std::string> parts(1);
  for (const char c : path) {
    if (c == '.')
      parts.emplace_back();
    else
      parts.back() += c;
  }
  std::erase(parts, "");
  return parts;
}

class Parser {
 public:
  Parser(const std::string& source, std::string_view text) : source_(source), text_(text) {}

  HoconNode file() {
    if (text_.size() > most_bytes)
      throw ConfigError(source_, " holds ", byte_size(text_.size()),
                        ", which no clearml.conf does; is it the right file?");
    if (text_.starts_with("\xef\xbb\xbf")) at_ = 3;
    skip(" \t\r\n");
    if (peek() == '[') fail("the file is a list; it has to hold keys and values, as api { ... }");
    const bool braces = peek() == '{';
    if (braces) ++at_;
    HoconNode root = members();
    if (braces) {
      expect('}', "to close the { that the file begins with");
      skip(" \t\r\n,");
    }
    if (at_ < text_.size()) fail("expected a key; a value with special characters has to be in quotes");
    return root;
  }

 private:
  char peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  bool next_is(std::string_view what) const { return text_.substr(at_).starts_with(what); }

  std::string place(size_t at) const {
    const std::string_view before = text_.substr(0, at);
    const size_t line = before.rfind('\n');
    return lab::text(source_, ":", 1 + std::ranges::count(before, '\n'), ":",
                     line == std::string_view::npos ? at + 1 : at - line);
  }
  [[noreturn]] void fail(const std::string& message) const { throw ConfigError(place(at_), ": ", message); }
  void expect(char c, const std::string& why) {
    if (peek() != c || at_ >= text_.size()) fail(lab::text("expected ", c, " ", why));
    ++at_;
  }

  // Skips these characters and comments.
  void skip(std::string_view characters) {
    for (; at_ < text_.size(); ++at_) {
      if (peek() == '#' || next_is("//")) {
        while (at_ < text_.size() && !is_line_end(peek())) ++at_;
        if (at_ == text_.size() || characters.find('\n') == std::string_view::npos) return;
      }
      if (characters.find(peek()) == std::string_view::npos) return;
    }
  }

  // Up to the } that ends it, which stays, or the end of the file.
  HoconNode members() {
    if (++depth_ > deepest)
      fail(lab::text("objects and lists nest deeper than ", deepest, "; is it the right file?"));
    HoconNode object{.kind = HoconNode::Kind::object, .place = place(at_)};
    for (skip(" \t\r\n,"); at_ < text_.size() && peek() != '}'; skip(" \t\r\n,")) {
      refuse_include();
      const std::vector<std::string> path = key();
      skip(" \t\r\n");
      const std::string where = place(at_);
      if (peek() == '{') {
        put(object, path, braced());
        continue;
      }
      const bool append = next_is("+=");
      if (!append && peek() != '=' && peek() != ':') fail("expected =, : or { after a key");
      at_ += append ? 2 : 1;
      skip(" \t\r\n");
      put(object, path, value(), append);
    }
    --depth_;
    return object;
  }

  void refuse_include() const {
    if (!same_letters(text_.substr(at_, 7), "include") || !(is_blank(peek(7)) || peek(7) == '"')) return;
    const size_t next = text_.find_first_not_of(" \t", at_ + 7);
    if (next == std::string_view::npos) return;
    const std::string_view rest = text_.substr(next);
    for (const auto* what : {"\"", "url(", "file(", "required("})
      if (rest.starts_with(what)) fail("include is not supported; write what the other file says in here");
  }

  std::vector<std::string> key() {
    if (peek() == '"') return {quoted_text()};
    const size_t begin = at_;
    while (at_ < text_.size() && is_key(peek())) ++at_;
    size_t end = at_;
    while (end > begin && is_blank(text_[end - 1])) --end;
    std::vector<std::string> path = split_path(text_.substr(begin, end - begin));
    if (path.empty()) fail("expected a key; a value with special characters has to be in quotes");
    return path;
  }

  HoconNode braced() {
    const size_t begin = at_++;
    HoconNode object = members();
    expect('}', "to close the { of " + place(begin));
    return object;
  }

  HoconNode list() {
    if (++depth_ > deepest)
      fail(lab::text("objects and lists nest deeper than ", deepest, "; is it the right file?"));
    const size_t begin = at_++;
    HoconNode out{.kind = HoconNode::Kind::list, .place = place(begin)};
    for (skip(" \t\r\n,"); at_ < text_.size() && peek() != ']'; skip(" \t\r\n,")) {
      const size_t before = at_;
      out.parts.push_back(value());
      if (at_ == before)
        fail("expected a value of the list; one with special characters has to be in quotes");
    }
    expect(']', "to close the [ of " + place(begin));
    --depth_;
    return out;
  }

  // What stands between here and the end of the line, a comma or a bracket that closes; nothing is "".
  HoconNode value() {
    const std::string where = place(at_);
    std::vector<HoconNode> parts;
    while (true) {
      skip(" \t");
      const char c = peek();
      if (at_ >= text_.size() || is_line_end(c) || c == ',' || c == '}' || c == ']') break;
      parts.push_back(part());
    }
    return joined(std::move(parts), where);
  }

  HoconNode part() {
    if (peek() == '{') return braced();
    if (peek() == '[') return list();
    HoconNode out{.kind = HoconNode::Kind::text, .place = place(at_)};
    if (next_is("${")) {
      out.kind = HoconNode::Kind::substitution;
      at_ += 2;
      if (peek() == '?') out.optional = true, ++at_;
      const size_t end = text_.find('}', at_);
      if (end == std::string_view::npos || end == at_) fail("expected a name and } after ${");
      out.text = text_.substr(at_, end - at_);
      at_ = end + 1;
    } else if (next_is("\"\"\"")) {
      out.text = block();
      out.quoted = true;
    } else if (peek() == '"') {
      out.text = quoted_text();
      out.quoted = true;
    } else {
      out.text = unquoted_text();
      if (same_letters(out.text, "null")) out.kind = HoconNode::Kind::null;
    }
    while (is_blank(peek())) out.blank += text_[at_++];
    return out;
  }

  std::string quoted_text() {
    const size_t begin = ++at_;
    for (; at_ < text_.size() && peek() != '"' && peek() != '\n'; ++at_)
      if (peek() == '\\' && peek(1) != '\n' && at_ + 1 < text_.size()) ++at_;
    if (peek() != '"') {
      at_ = begin - 1;
      fail("this quote is not closed on its line");
    }
    return unescaped(text_.substr(begin, at_++ - begin));
  }

  // """ to """; quotes before the last three belong to the text.
  std::string block() {
    const size_t begin = at_ + 3;
    size_t end = text_.find("\"\"\"", begin);
    if (end == std::string_view::npos) fail("these three quotes are not closed");
    while (end + 3 < text_.size() && text_[end + 3] == '"') ++end;
    at_ = end + 3;
    return std::string(text_.substr(begin, end - begin));
  }

  std::string unquoted_text() {
    const size_t begin = at_;
    while (at_ < text_.size()) {
      if (peek() == '\\' && at_ + 1 < text_.size() && !is_line_end(peek(1)))
        at_ += 2;
      else if (is_unquoted(peek()))
        ++at_;
      else
        break;
    }
    const std::string out = unescaped(text_.substr(begin, at_ - begin));
    if (peek() == '\\' && is_line_end(peek(1))) {  // the value goes on in the next line
      while (++at_ < text_.size() && (is_line_end(peek()) || is_blank(peek()))) {
      }
    }
    if (at_ == begin)
      fail(lab::text("the character ", peek(), " has a meaning of its own; put the value in quotes"));
    return out;
  }

  const std::string& source_;
  std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

const Hocon* Hocon::member(const std::string& key) const {
  const auto found = std::ranges::find(members, key, [](const auto& entry) { return entry.first; });
  return found == members.end() ? nullptr : &found->second;
}

Hocon* Hocon::member(const std::string& key) { return const_cast<Hocon*>(std::as_const(*this).member(key)); }

const Hocon* Hocon::find(const std::string& dotted_path) const {
  const Hocon* at = this;
  for (const std::string& key : split_path(dotted_path)) {
    at = at->member(key);
    if (!at) return nullptr;
  }
  return at;
}

Hocon parse_hocon(const std::string& source, const std::string& text, const Environment& environment) {
  return resolved(Parser(source, text).file(), environment);
}

void merge(Hocon& base, const Hocon& over) {
  for (const auto& [key, value] : over.members) {
    Hocon* there = base.member(key);
    if (!there)
      base.members.emplace_back(key, value);
    else if (there->kind == Hocon::Kind::object && value.kind == Hocon::Kind::object)
      merge(*there, value);
    else
      *there = value;
  }
}

}  // namespace lab::detail
