#include "lab/data/own_samples.h"

#include "data/opened_samples.h"
#include "data/sample_check.h"
#include "lab/core/error.h"

namespace lab {
namespace detail {
namespace {

class OwnOpened : public OpenedSamples {
 public:
  OwnOpened(const std::string& called, std::shared_ptr<const OwnSamples> samples)
      : OpenedSamples(called), samples_(std::move(samples)) {
    if (!samples_)
      throw ConfigError("the dataset '", name(), "' was opened as nothing; return samples from its function");
    size_ = samples_->size();
    if (size_ < 1) throw DataError("the dataset '", name(), "' has ", size_, " samples; give it some");
  }
  int64_t size() const override { return size_; }
  int64_t id(int64_t i) const override { return i; }
  int64_t ids() const override { return size_; }
  std::string place(int64_t i) const override { return text("sample ", i, " of ", name()); }
  std::string identity() const override {
    return text(size_, " samples of ", name(), '\n', samples_->identity(), '\n');
  }
  void read(int64_t i, Sample& sample, const Wanted&) const override {
    sample.id = i;
    sample.parts.clear();
    sample.metadata.clear();
    try {
      samples_->get(i, sample);
    } catch (const Error& problem) {
      throw Error(problem.code(), text(place(i), ": ", problem.what()));
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& problem) {
      throw DataError(place(i), ": ", problem.what());
    }
    sample.id = i;
    if (sample.parts.empty()) throw DataError(place(i), " has no parts; set one at least");
    check_sizes(sample, [&] { return place(i); });
  }

 private:
  std::shared_ptr<const OwnSamples> samples_;
  int64_t size_ = 0;
};

struct OwnNode : DatasetNode {
  std::function<std::shared_ptr<const OwnSamples>()> opener;
  OwnNode(const std::string& name_, std::function<std::shared_ptr<const OwnSamples>()> opener_)
      : DatasetNode(name_, -1), opener(std::move(opener_)) {
    if (name.empty()) throw ConfigError("a dataset of own samples has no name; give it one, for messages");
    if (!opener) throw ConfigError("the dataset '", name, "' has no function that opens it; give it one");
  }
  Opened open(Opening&) const override { return std::make_shared<OwnOpened>(name, opener()); }
  void add_files(std::vector<std::string>&) const override {}
};

}  // namespace
}  // namespace detail

Dataset own(std::string name, std::function<std::shared_ptr<const OwnSamples>()> open) {
  return Dataset(std::make_shared<detail::OwnNode>(name, std::move(open)));
}

}  // namespace lab
