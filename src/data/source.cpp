#include "lab/data/source.h"

#include "data/opened_samples.h"
#include "lab/core/error.h"

namespace lab {
namespace {

detail::Opened opened(const Dataset& dataset, const FileLayout& layout) {
  if (dataset.empty()) throw ConfigError("an empty dataset cannot be opened; name a file by hdf5(...)");
  std::map<std::string, FileLayout> layouts;
  for (const std::string& path : dataset.files()) layouts.emplace(path, layout);
  if (layouts.size() > 1)
    throw Bug(dataset.path(), " has ", layouts.size(), " files, of which one layout is known");
  detail::Opening opening{layouts};
  return detail::open_once(*dataset.node(), opening);
}

}  // namespace

Source::Source(const Dataset& dataset, const FileLayout& layout) : samples_(opened(dataset, layout)) {}

int64_t Source::size() const { return samples_->size(); }
int64_t Source::file_index(int64_t i) const { return samples_->id(i); }
const std::string& Source::path() const { return samples_->name(); }
std::string Source::place(int64_t i) const { return samples_->place(i); }
std::string Source::identity() const { return samples_->identity(); }

void Source::read(int64_t i, Sample& sample) const {
  if (i < 0 || i >= size()) throw Bug("sample ", i, " of ", size(), " in ", path());
  samples_->read(i, sample, {});
}

Metadata Source::metadata(int64_t i) const {
  if (i < 0 || i >= size()) throw Bug("sample ", i, " of ", size(), " in ", path());
  Sample sample;
  samples_->read(i, sample, {.metadata_only = true});
  return std::move(sample.metadata);
}

std::vector<std::shared_ptr<const Source>> open_datasets(const std::vector<Dataset>& datasets,
                                                         const std::map<std::string, FileLayout>& layouts,
                                                         int64_t ranks_on_node) {
  detail::Opening opening{layouts, ranks_on_node};
  std::vector<std::shared_ptr<const Source>> sources;
  for (const Dataset& dataset : datasets)
    sources.push_back(dataset.empty()
                          ? nullptr
                          : std::make_shared<const Source>(detail::open_once(*dataset.node(), opening)));
  return sources;
}

detail::Opened detail::open_once(const DatasetNode& node, Opening& opening) {
  if (const auto found = opening.opened.find(&node); found != opening.opened.end()) return found->second;
  Opened samples = node.open(opening);
  opening.opened.emplace(&node, samples);
  return samples;
}

}  // namespace lab
