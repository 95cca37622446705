// Transforms one behind the other, on several parts, and how they run.
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "data/sample_check.h"
#include "data/transform_run.h"
#include "lab/core/error.h"
#include "lab/data/transform.h"

namespace lab {
namespace {

void check(const Transform& transform) {
  if (!transform.apply)
    throw ConfigError("the transform '", transform.name,
                      "' has no function; make one by map(name, function), or by one of lab's");
}

std::string names_of(const std::vector<Transform>& list) {
  std::vector<std::string> names;
  for (const Transform& transform : list) names.push_back(transform.name);
  return names.empty() ? "none" : join(names);
}

// From an index that may count from the end to one in [0, most].
int64_t from_start(const std::vector<Transform>& list, int64_t index, int64_t most, const char* what) {
  const int64_t size = std::ssize(list), place = index < 0 ? index + size : index;
  if (place < 0 || place > most)
    throw ConfigError(
        "there is no ", what, ' ', index, " in ", size, size == 1 ? " transform" : " transforms",
        most < 0 ? "" : text("; the nearest is ", index < 0 ? -size : most), ". They are: ", names_of(list));
  return place;
}

// The transforms of each_part, each made when its part is met first.
class PartTransforms {
 public:
  explicit PartTransforms(std::function<Transform(const std::string&)> make) : make_(std::move(make)) {}
  const Transform& of(const std::string& part) {
    const std::lock_guard lock(mutex_);
    const auto found = made_.find(part);
    if (found != made_.end()) return found->second;
    Transform transform = make_(part);
    check(transform);
    return made_.emplace(part, std::move(transform)).first->second;
  }

 private:
  std::mutex mutex_;
  std::function<Transform(const std::string&)> make_;
  std::map<std::string, Transform> made_;
};

Transform over_parts(const char* kind, std::vector<std::string> parts,
                     std::function<Transform(const std::string&)> make, bool same_draws) {
  if (!make)
    throw ConfigError(kind, " of ", join(parts), " has no function that makes a transform of a part");
  const auto transforms = std::make_shared<PartTransforms>(std::move(make));
  std::vector<std::string> made;
  for (const std::string& part : parts) made.push_back(transforms->of(part).name);
  std::string name = parts.empty() ? text(transforms->of("*").name) : join(made, " + ");
  return map(text(kind, '(', name, ')'),
             [parts = std::move(parts), transforms, same_draws](Sample& sample, Rng& rng) {
               std::vector<std::string> all;
               if (parts.empty())
                 for (const Part& part : sample.parts) all.push_back(part.name);
               for (const std::string& part : parts.empty() ? all : parts) {
                 Rng same = rng;
                 detail::placed([&] { return text("part '", part, "': "); },
                                [&] { transforms->of(part).apply(sample, same_draws ? same : rng); });
               }
             });
}

}  // namespace

Transforms::Transforms(std::initializer_list<Transform> list) : list_(list) {
  for (const Transform& transform : list_) check(transform);
}

Transforms::Transforms(Transform one) { push_back(std::move(one)); }

void Transforms::push_back(Transform transform) {
  check(transform);
  list_.push_back(std::move(transform));
}

const Transform& Transforms::operator[](int64_t index) const {
  return list_[static_cast<size_t>(from_start(list_, index, std::ssize(list_) - 1, "transform"))];
}

Transforms Transforms::slice(int64_t first, std::optional<int64_t> end) const {
  const int64_t size = std::ssize(list_);
  const int64_t from = from_start(list_, first, size, "place");
  const int64_t to = end ? from_start(list_, *end, size, "place") : size;
  if (to < from)
    throw ConfigError("[", first, ", ", *end, ") is no slice of ", size,
                      " transforms: it ends before it begins");
  Transforms part;
  part.list_.assign(list_.begin() + from, list_.begin() + to);
  return part;
}

Transforms operator+(Transforms first, const Transforms& then) {
  for (const Transform& transform : then) first.push_back(transform);
  return first;
}

void apply(const Transforms& transforms, Sample& sample, uint64_t seed, uint64_t epoch) {
  detail::run(transforms, sample, {seed, epoch}, [&] { return text("sample ", sample.id); });
}

Transform each_part(std::vector<std::string> parts, std::function<Transform(const std::string& part)> make) {
  return over_parts("each_part", std::move(parts), std::move(make), false);
}

Transform together(std::vector<std::string> parts, std::function<Transform(const std::string& part)> make) {
  return over_parts("together", std::move(parts), std::move(make), true);
}

void detail::run(const Transforms& transforms, Sample& sample, const Draws& draws,
                 const std::function<std::string()>& place) {
  uint64_t i = draws.first_place;
  for (const Transform& transform : transforms) {
    Rng rng(draws.seed, Purpose::transform, draws.epoch, static_cast<uint64_t>(sample.id), i++);
    placed([&] { return text(transform.name, " on ", place(), ": "); },
           [&] { transform.apply(sample, rng); });
  }
}

}  // namespace lab
