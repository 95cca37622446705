#include <algorithm>

#include "lab/config/fields.h"
#include "lab/core/text.h"

namespace lab {
namespace {

constexpr size_t help_columns = 100;
constexpr size_t farthest_comment = 60;  // comments of a section stand below each other up to here

// The words, as many as fit in a line; lines after the first are indented.
std::string wrapped(const std::string& begin, const std::string& words, size_t indent) {
  std::string out, line = begin;
  bool fresh = true;  // nothing of `words` in this line yet
  for (size_t at = 0; at <= words.size();) {
    const size_t end = std::min(words.find(' ', at), words.size());
    const std::string word = words.substr(at, end - at);
    at = end + 1;
    if (!fresh && line.size() + 1 + word.size() > help_columns) {
      out += line + "\n";
      line = std::string(indent, ' ');
      fresh = true;
    }
    line += fresh ? word : " " + word;
    fresh = false;
  }
  return out + line + "\n";
}

std::string described_field(const FieldDescription& field, size_t name_width) {
  std::string facts = field.type + " = " + field.default_value.toml();
  for (const Constraint& constraint : field.constraints) facts += ", " + constraint.text;
  const std::string begin = "  " + field.name + std::string(name_width - field.name.size() + 3, ' ');
  const std::string help = field.help.empty() ? "" : wrapped(std::string(6, ' '), field.help, 6);
  return wrapped(begin, facts, begin.size()) + help;
}

// As the path stands in a header or before '='.
std::string toml_path(const std::string& path) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= path.size();) {
    const size_t end = std::min(path.find('.', at), path.size());
    parts.push_back(toml_key(path.substr(at, end - at)));
    at = end + 1;
  }
  return join(parts, ".");
}

struct Line {
  std::string toml, comment;
};

struct Section {
  std::string path;
  std::vector<Line> lines;
};

// The file and line; a file name with a line break in it must not end the comment.
std::string origin_comment(const Origin& origin) {
  std::string out = origin.line > 0 ? text(origin.source, ":", origin.line) : origin.source;
  std::ranges::replace_if(
      out, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, '?');
  return out;
}

// The sections in the order of their first value; top-level keys come first, as TOML needs it.
std::vector<Section> sections_of(const Resolved& resolved) {
  std::vector<Section> sections = {{"", {}}};
  for (const ResolvedValue& item : resolved) {
    const size_t dot = item.path.rfind('.');
    const std::string path = dot == std::string::npos ? "" : item.path.substr(0, dot);
    const std::string key = dot == std::string::npos ? item.path : item.path.substr(dot + 1);
    auto section = std::ranges::find(sections, path, &Section::path);
    if (section == sections.end()) section = sections.insert(section, {path, {}});
    section->lines.push_back({toml_key(key) + " = " + item.value.toml(), origin_comment(item.value.origin)});
  }
  return sections;
}

std::string section_text(const Section& section, bool with_origins) {
  std::string out = section.path.empty() ? "" : "[" + toml_path(section.path) + "]\n";
  size_t widest = 0;
  for (const Line& line : section.lines)
    if (line.toml.size() <= farthest_comment) widest = std::max(widest, line.toml.size());
  for (const Line& line : section.lines) {
    out += line.toml;
    if (with_origins)
      out +=
          std::string(std::max(widest, line.toml.size()) - line.toml.size() + 2, ' ') + "# " + line.comment;
    out += "\n";
  }
  return out;
}

}  // namespace

std::string help_text(const std::string& path, const std::vector<FieldDescription>& fields) {
  size_t name_width = 0;
  for (const FieldDescription& field : fields) name_width = std::max(name_width, field.name.size());
  std::string out = path.empty() ? "" : "[" + path + "]\n";
  for (const FieldDescription& field : fields) out += described_field(field, name_width);
  return out;
}

std::string to_toml(const Resolved& resolved, bool with_origins) {
  std::string out;
  for (const Section& section : sections_of(resolved)) {
    if (section.lines.empty()) continue;
    if (!out.empty()) out += "\n";
    out += section_text(section, with_origins);
  }
  return out;
}

}  // namespace lab
