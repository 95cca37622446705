#pragma once
// Per-sample transforms. Each is a value; an experiment lists them in the order in which they run.

#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "lab/core/random.h"
#include "lab/data/sample.h"

namespace lab {

// `apply` changes the sample in place. It may run on several threads at once, so it must not write to shared
// state. Its random numbers are a function of (seed, epoch, sample id, place of the transform in the list),
// never of rank or order. It throws DataError for a sample it cannot take. The name tells it from others:
// those of one name are taken for equal.
struct Transform {
  std::string name;  // for messages: "shift(images, 2)"
  std::function<void(Sample&, Rng&)> apply;
  bool operator==(const Transform& other) const { return name == other.name; }
};

// Transforms in the order in which they run: {a, b}, or a + b. Throws ConfigError for one without a function.
class Transforms {
 public:
  Transforms() = default;
  Transforms(std::initializer_list<Transform> list);
  Transforms(Transform one);  // NOLINT: one transform is a list of one

  size_t size() const { return list_.size(); }
  bool empty() const { return list_.empty(); }
  auto begin() const { return list_.begin(); }
  auto end() const { return list_.end(); }
  auto begin() { return list_.begin(); }
  auto end() { return list_.end(); }
  void push_back(Transform transform);

  // Below zero they count from the end, as in Python; what is not there is a ConfigError.
  const Transform& operator[](int64_t index) const;
  Transforms slice(int64_t first, std::optional<int64_t> end = {}) const;  // [first, end)

  bool operator==(const Transforms&) const = default;  // by their names

 private:
  std::vector<Transform> list_;
};

Transforms operator+(Transforms first, const Transforms& then);

// Runs them on one sample, with the random numbers of this seed and epoch. What goes wrong is a DataError
// that names transform and sample, or a ConfigError where it was one.
void apply(const Transforms& transforms, Sample& sample, uint64_t seed = 0, uint64_t epoch = 0);

// Any function as a transform.
Transform map(std::string name, std::function<void(Sample&, Rng&)> apply);

// What `make` makes for each of these parts, one after the other; no names: for all that the sample has.
//   each_part({"left", "right"}, [](const std::string& part) { return shift(part, 2); })
// In each_part each part draws random numbers of its own, in together all draw the same: an image and its
// mask are turned the same way.
Transform each_part(std::vector<std::string> parts, std::function<Transform(const std::string& part)> make);
Transform together(std::vector<std::string> parts, std::function<Transform(const std::string& part)> make);

// Values times `factor`, as floats of the run's precision: any integer or float part becomes f32 (64-true:
// f64).
Transform scale(std::string part, double factor);
// Values divided by `divisor`, likewise. divide("images", 255) gives the floats nearest to v / 255, which v
// times the rounded 1.0 / 255 does not.
Transform divide(std::string part, double divisor);
// Adds a leading dimension of one to images (H, W) -> (1, H, W): the channel that convolutions want.
Transform add_channel(std::string part);
// Turns (..., H, W) upside down with this probability.
Transform flip_vertical(std::string part, double probability);
Transform flip_horizontal(std::string part, double probability);
// Moves (..., H, W) by up to `most` pixels along each axis, uniformly; what is moved in is zero.
Transform shift(std::string part, int64_t most);
// An integer label in [0, classes) as one-hot floats (classes), or as an i64 scalar; DataError (file's field,
// sample id, value, range) for any other.
Transform one_hot(std::string part, int64_t classes);
Transform class_index(std::string part, int64_t classes);

}  // namespace lab
