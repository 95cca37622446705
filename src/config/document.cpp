#include "lab/config/document.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>
#include <optional>
#include <set>

#include "config/parse.h"
#include "lab/core/error.h"
#include "lab/core/process.h"
#include "lab/core/text.h"

namespace lab {
namespace {

namespace fs = std::filesystem;

struct Extended {
  std::string path;
  Origin origin;  // where it is extended
};

// The files that the file at `path` extends, in order.
std::vector<Extended> extended_by(const Table& table, const std::string& path) {
  const Table::Entry* entry = table.find("extends");
  if (!entry) return {};
  const auto* list = std::get_if<Array>(&entry->value.data);
  std::vector<Extended> out;
  for (const Value& value : list ? *list : Array{entry->value}) {
    const auto* name = std::get_if<std::string>(&value.data);
    if (!name || name->empty() || name->find('\0') != std::string::npos)
      throw ConfigError(value.origin.text(), ": extends wants a file name or a list of file names, got ",
                        value.shown());
    out.push_back({(fs::path(path).parent_path() / *name).lexically_normal().string(), value.origin});
  }
  return out;
}

// Reads the files one after the other and watches that none extends itself, however far around.
class FileReader {
 public:
  void read(const std::string& path) {
    std::error_code ignored;
    const fs::path identity = fs::weakly_canonical(path, ignored);  // sees through links
    open_.push_back({path, identity});
    std::string bytes = read_file(path, "config file", most_config_bytes);
    const std::vector<Extended> extended = extended_by(parse_toml(path, bytes), path);
    files.files.emplace_back(path, std::move(bytes));
    for (const Extended& next : extended) {
      refuse_circle(next);
      const auto same = [&](const auto& file) { return file.first == next.path; };
      if (std::ranges::any_of(files.files, same)) continue;
      if (!fs::exists(next.path, ignored))
        throw InputNotFound(next.origin.text(), ": extends ", lab::quoted(next.path),
                            ", which is not there; correct the name (it is relative to ", lab::quoted(path),
                            ")");
      read(next.path);
    }
    open_.pop_back();
  }

  ConfigFiles files;

 private:
  struct Open {
    std::string path;
    fs::path identity;
  };

  void refuse_circle(const Extended& next) const {
    std::error_code ignored;
    const fs::path identity = fs::weakly_canonical(next.path, ignored);
    const auto begin = std::ranges::find(open_, identity, &Open::identity);
    if (begin == open_.end()) return;
    std::string circle;
    for (auto at = begin; at != open_.end(); ++at) circle += at->path + " -> ";
    throw ConfigError(next.origin.text(), ": extends goes in a circle: ", circle, begin->path,
                      "; take one of these extends out");
  }

  std::vector<Open> open_;  // from the config itself to the file being read
};

void merge(Table& into, const Table& from) {
  std::map<std::string, size_t> places;  // one look-up each, however many keys a file has
  for (size_t i = 0; i < into.entries.size(); ++i) places[into.entries[i].key] = i;
  for (const Table::Entry& entry : from.entries) {
    const auto place = places.find(entry.key);
    if (place == places.end()) {
      into.entries.push_back(entry);
      continue;
    }
    Table::Entry& old = into.entries[place->second];
    auto* old_table = std::get_if<Table>(&old.value.data);
    const auto* new_table = std::get_if<Table>(&entry.value.data);
    if (old_table && new_table) {
      merge(*old_table, *new_table);
    } else {
      old = entry;
    }
  }
}

// Merges a file after what it extends. A file reached by two ways takes part once, so that what one file
// changes in a common base is not undone when a second file brings the same base along.
class FileMerger {
 public:
  explicit FileMerger(const ConfigFiles& files) {
    for (const auto& [path, bytes] : files.files) tables_[path] = parse_toml(path, bytes);
  }

  void merge_file(const std::string& path) {
    if (!done_.insert(path).second) return;
    const auto table = tables_.find(path);
    if (table == tables_.end())
      throw Bug("config file ", lab::quoted(path), " was not read before the merge");
    for (const Extended& next : extended_by(table->second, path)) merge_file(next.path);
    std::erase_if(table->second.entries, [](const Table::Entry& entry) { return entry.key == "extends"; });
    merge(result, table->second);
  }

  Table result;

 private:
  std::map<std::string, Table> tables_;
  std::set<std::string> done_;
};

// Where the key of KEY=VALUE ends: the first '=' outside of quotes.
size_t end_of_key(const std::string& set) {
  char quote = '\0';
  for (size_t i = 0; i < set.size(); ++i) {
    const char c = set[i];
    if (quote == '\0' && c == '=') return i;
    if (quote == '\0' && (c == '"' || c == '\'')) {
      quote = c;
    } else if (c == quote) {
      quote = '\0';
    }
  }
  return std::string::npos;
}

void refuse_way_through_value(const Table& root, const std::vector<std::string>& parts,
                              const Origin& origin) {
  const Table* at = &root;
  std::string path;
  for (size_t i = 0; i + 1 < parts.size(); ++i) {
    path += text(i ? "." : "", toml_key(parts[i]));
    const Table::Entry* entry = at->find(parts[i]);
    if (!entry) return;
    at = std::get_if<Table>(&entry->value.data);
    if (!at)
      throw ConfigError(origin.text(), ": ", path, " is not a table but ", entry->value.shown(), " of ",
                        entry->value.origin.text(), "; set ", path, " itself");
  }
}

void apply_set(Table& root, const std::string& set) {
  const size_t end = end_of_key(set);
  if (end == std::string::npos)
    throw ConfigError("--set ", set,
                      ": there is no '='; write --set KEY=VALUE, as in --set config.batch_size=64");
  const auto parts = parse_toml_key(set.substr(0, end));
  if (!parts)
    throw ConfigError("--set ", set, ": ", lab::quoted(set.substr(0, end)),
                      " is no key; write the names from the outermost table on with dots between, as in "
                      "config.batch_size");
  if (parts->front() == "extends")
    throw ConfigError("--set ", set,
                      ": extends works in files only; name the other config on the command line");

  const Origin origin{"--set " + set.substr(0, end)};
  refuse_way_through_value(root, *parts, origin);
  const std::string plain = set.substr(end + 1);
  std::optional<Value> parsed = parse_toml_value(origin, plain);
  if (!parsed)
    parsed = parse_toml_value(origin, lab::quoted(plain));  // plain text, unless it is not even text
  if (!parsed) throw ConfigError(origin.text(), ": the value is not UTF-8 text; correct it");
  Value value = std::move(*parsed);
  value.plain = plain;
  Table table;
  for (auto part = parts->rbegin(); part != parts->rend(); ++part) {
    table = Table{{{*part, origin, std::move(value)}}};
    value = Value{.data = table, .origin = origin};
  }
  merge(root, table);
}

}  // namespace

// Each piece as its length in decimal, a colon, and the bytes.
std::string ConfigFiles::to_bytes() const {
  std::string out;
  for (const auto& [path, bytes] : files) out += lab::text(path.size(), ":", path, bytes.size(), ":", bytes);
  return out;
}

ConfigFiles ConfigFiles::from_bytes(const std::string& bytes) {
  size_t at = 0;
  const auto next_piece = [&] {
    const size_t colon = bytes.find(':', at);
    size_t length = 0;
    if (colon != std::string::npos) std::from_chars(bytes.data() + at, bytes.data() + colon, length);
    if (colon == std::string::npos || length > bytes.size() - colon - 1)
      throw Bug("config files arrived damaged at byte ", at, " of ", bytes.size());
    at = colon + 1 + length;
    return bytes.substr(colon + 1, length);
  };
  ConfigFiles out;
  while (at < bytes.size()) {
    std::string path = next_piece();
    std::string contents = next_piece();
    out.files.emplace_back(std::move(path), std::move(contents));
  }
  return out;
}

ConfigFiles read_config_files(const std::string& path) {
  FileReader reader;
  reader.read(path);
  return std::move(reader.files);
}

Table merge_config(const ConfigFiles& files, const std::vector<std::string>& sets) {
  if (files.files.empty()) throw Bug("there is no config file to merge");
  FileMerger merger(files);
  merger.merge_file(files.files.front().first);
  for (const std::string& set : sets) apply_set(merger.result, set);
  return std::move(merger.result);
}

}  // namespace lab
