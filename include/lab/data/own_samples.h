#pragma once
// Samples that an experiment makes or reads by itself.

#include <cstdint>
#include <string>

#include "lab/data/sample.h"

namespace lab {

// What lies behind own(...): any number of samples, by their index. Each rank opens its own, when a run
// begins. Immutable, or locked: the threads of several readers may ask at once.
//
//   struct Parabola : lab::OwnSamples {
//     int64_t size() const override { return 1000; }
//     void get(int64_t i, lab::Sample& sample) const override {
//       const float x = static_cast<float>(i) / 1000;
//       sample.set("x", {1}, std::vector{x});
//       sample.set("y", {1}, std::vector{x * x});
//       sample.metadata.set("half", x < 0.5f ? "lower" : "upper");
//     }
//     std::string identity() const override { return "1000 points of a parabola"; }
//   };
class OwnSamples {
 public:
  virtual ~OwnSamples() = default;
  virtual int64_t size() const = 0;  // the same at any time
  // Sample i of [0, size()): the same whenever, and on whatever rank, it is asked for; random numbers belong
  // into transforms. `sample` comes without parts and metadata. What is thrown ends the run with 65, or with
  // the code of the Error that it is, and names the sample.
  virtual void get(int64_t i, Sample& sample) const = 0;
  // What must be the same on all ranks beside the size, in lines: versions, checksums, settings; no paths.
  virtual std::string identity() const = 0;
};

}  // namespace lab
