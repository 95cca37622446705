// Writes metrics.csv and an event file into a folder, as a run would: what tensorboard_test.py reads back.
//   tracker_tool FOLDER

#include <cmath>
#include <cstdio>
#include <exception>
#include <limits>
#include <memory>

#include "lab/track/tracker.h"

namespace {

void write(const std::string& folder) {
  lab::Fanout trackers;
  trackers.add(lab::csv_tracker(folder + "/metrics.csv"));
  trackers.add(lab::tensorboard_tracker(folder));
  double time = 1700000000.5;
  trackers.text("config", "seed = 0\n# Ünïcode", time);
  for (int64_t step = 0; step < 12000; ++step) {  // more than TensorBoard keeps when it is not asked for all
    const auto x = static_cast<double>(step);
    trackers.scalars({{"loss/train_step", step, step / 50, 1 / (x + 3)}}, time += 0.01);
    if (step % 50 == 49)
      trackers.scalars({{"loss/validate", step, step / 50, std::sin(x)},
                        {"accuracy (validate)/top, \"5\"", step, step / 50, x / 12000},
                        {"epoch", step, step / 50, x / 50}},
                       time += 0.01);
  }
  const double infinity = std::numeric_limits<double>::infinity();
  trackers.scalars({{"odd/values", 12000, 240, NAN},
                    {"odd/values", 12001, 240, infinity},
                    {"odd/values", 12002, 240, -infinity},
                    {"odd/values", 12003, 240, 1e300},
                    {"odd/values", 12004, 240, 1e-42},
                    {"odd/values", 12005, 240, -0.0},
                    {"odd/välues", int64_t{1} << 40, int64_t{1} << 33, 1e-300}},
                   time);
  trackers.flush();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: tracker_tool FOLDER\n", stderr);
    return 64;
  }
  try {
    write(argv[1]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 70;
  }
  return 0;
}
