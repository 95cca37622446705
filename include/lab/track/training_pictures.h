#pragma once
// Pictures of how the training went, made from what metrics.csv has recorded of all starts of the run.

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "lab/core/log.h"
#include "lab/draw/picture.h"
#include "lab/track/tracker.h"

namespace lab {
namespace detail {
class PictureFiles;
}

struct NamedDrawing {
  std::string name;
  Drawing drawing;
};

// "loss" over the steps, where there is one, and each metric of training and validation over the epochs, in
// the order in which they were first recorded: NAME/train and NAME/validate are two curves of NAME;
// NAME (validate)/a and NAME (validate)/b are curves of NAME (validate). Other scalars are left out.
// The loss is on a logarithmic axis where it spans more than two powers of ten.
std::vector<NamedDrawing> training_drawings(const std::vector<Scalar>& points);

// The same as files of a run folder: figures/loss.png, figures/NAME.png. Draws with the painter, which must
// outlive it. One thread; nothing throws, what goes wrong is said once.
class TrainingPictures {
 public:
  // title: what the run is called.
  TrainingPictures(std::string run_folder, std::string title, Painter& painter, const Log& log);
  ~TrainingPictures();
  TrainingPictures(const TrainingPictures&) = delete;
  TrainingPictures& operator=(const TrainingPictures&) = delete;

  void draw();
  // Once a minute, and less often where that would be more than a hundredth of the time.
  void draw_now_and_then();

 private:
  using Clock = std::chrono::steady_clock;

  std::string folder_, title_;
  Painter& painter_;
  Log log_;
  std::unique_ptr<detail::PictureFiles> files_;
  Clock::time_point drawn_ = Clock::now();
  Clock::duration took_{0};
  bool said_ = false;
};

}  // namespace lab
