#include "lab/data/dataset.h"

#include <algorithm>

#include "data/opened_samples.h"
#include "lab/core/error.h"

namespace lab {
namespace {

const std::vector<std::string> no_names;

const detail::FileNode* file_of(const detail::Node& node) {
  return dynamic_cast<const detail::FileNode*>(node.get());
}

// A copy that is to be changed. Throws ConfigError for what is no file.
std::shared_ptr<detail::FileNode> file_to_change(const detail::Node& node, const std::string& field) {
  if (const auto* file = file_of(node)) return std::make_shared<detail::FileNode>(*file);
  throw ConfigError("the field '", field, "' cannot be added to ",
                    node ? "what was made of " + node->name : "an empty dataset",
                    "; add it to hdf5(...) itself");
}

const detail::DatasetNode& something(const detail::Node& node, const char* verb) {
  if (!node)
    throw ConfigError("there is nothing to ", verb, " in an empty dataset; name a file by hdf5(...)");
  return *node;
}

// For take and drop. Throws when `count` samples cannot be had.
void check_count(const detail::Node& node, const char* verb, int64_t count) {
  const std::string& name = something(node, verb).name;
  const int64_t known = node->count;
  if (count < 0)
    throw ConfigError("cannot ", verb, ' ', count, " samples of ", name, "; ", verb, " 0 or more");
  if (known >= 0 && count > known)
    throw DataError("cannot ", verb, ' ', count, " samples of ", name, ": only ", known,
                    " are left of it here; ", verb, " fewer");
}

detail::Node cut(const detail::Node& node, int64_t skip, int64_t count) {
  const auto* file = file_of(node);
  if (file == nullptr) return detail::stretch_of(node, skip, count);
  auto part = std::make_shared<detail::FileNode>(*file);
  part->first += skip;
  part->count = count;
  return part;
}

}  // namespace

Dataset::Dataset(std::string path, std::vector<std::string> fields)
    : node_(std::make_shared<detail::FileNode>(std::move(path), std::move(fields))) {}

Dataset::Dataset(std::shared_ptr<const detail::DatasetNode> node) : node_(std::move(node)) {}

Dataset Dataset::take(int64_t count) const {
  check_count(node_, "take", count);
  return Dataset(cut(node_, 0, count));
}

Dataset Dataset::drop(int64_t count) const {
  check_count(node_, "drop", count);
  return Dataset(cut(node_, count, node_->count < 0 ? -1 : node_->count - count));
}

Dataset Dataset::slice(int64_t first, int64_t end) const {
  if (first < 0 || end < first)
    throw ConfigError("[", first, ", ", end, ") is no slice of ", something(node_, "slice").name,
                      "; give 0 <= first <= end");
  return drop(first).take(end - first);
}

Dataset Dataset::with_optional(std::string field) const {
  auto more = file_to_change(node_, field);
  if (std::ranges::find(more->fields, field) == more->fields.end() &&
      std::ranges::find(more->optional, field) == more->optional.end())
    more->optional.push_back(std::move(field));
  return Dataset(std::move(more));
}

Dataset Dataset::with_metadata(const std::vector<std::string>& fields) const {
  if (fields.empty()) return *this;
  auto more = file_to_change(node_, fields.front());
  for (const std::string& field : fields)
    if (std::ranges::find(more->metadata, field) == more->metadata.end()) more->metadata.push_back(field);
  return Dataset(std::move(more));
}

const std::string& Dataset::path() const {
  static const std::string none;
  return node_ ? node_->name : none;
}

const std::vector<std::string>& Dataset::fields() const {
  const auto* file = file_of(node_);
  return file ? file->fields : no_names;
}

const std::vector<std::string>& Dataset::optional_fields() const {
  const auto* file = file_of(node_);
  return file ? file->optional : no_names;
}

int64_t Dataset::first() const {
  const auto* file = file_of(node_);
  return file ? file->first : 0;
}

int64_t Dataset::count() const { return node_ ? node_->count : -1; }

std::vector<std::string> Dataset::files() const {
  std::vector<std::string> paths, once;
  if (node_) node_->add_files(paths);
  for (std::string& path : paths)
    if (std::ranges::find(once, path) == once.end()) once.push_back(std::move(path));
  return once;
}

bool Dataset::caches() const { return node_ && node_->caches; }

Dataset hdf5(std::string path, std::vector<std::string> fields) {
  return {std::move(path), std::move(fields)};
}

}  // namespace lab
