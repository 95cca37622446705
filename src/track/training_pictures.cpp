#include "lab/track/training_pictures.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "track/picture_files.h"

namespace lab {
namespace {

const std::string train = "train", validate = "validate";

// Per tag, in order.
using History = std::map<std::string, std::vector<Scalar>>;

// Whether it was measured before the first step: its place is that of the first epoch, which has another
// value.
bool before_training(const std::vector<Scalar>& of_tag, const History& history) {
  const Scalar& first = of_tag.front();
  if (first.epoch != 0 || first.step != 0) return false;
  if (of_tag.size() > 1 && of_tag[1].epoch == 0) return true;
  return !history.contains("loss/train_epoch");
}

Curve curve_of(const std::string& name, const std::string& tag, const History& history, bool by_step,
               CurveStyle style) {
  Curve curve{.name = name, .style = style};
  const std::vector<Scalar>& points = history.at(tag);
  const bool untrained = tag.find(validate) != std::string::npos && before_training(points, history);
  for (const Scalar& point : points) {
    const auto done = static_cast<double>((by_step ? point.step : point.epoch) + 1);
    curve.x.push_back(untrained && &point == &points.front() ? 0 : done);
    curve.y.push_back(point.value);
  }
  return curve;
}

bool spans_two_decades(const std::vector<Curve>& curves) {
  double least = std::numeric_limits<double>::infinity(), most = 0;
  for (const Curve& curve : curves)
    for (const double value : curve.y) {
      if (!std::isfinite(value)) continue;
      least = std::min(least, value);
      most = std::max(most, value);
    }
  return least > 0 && most > 100 * least && std::isfinite(least);
}

std::optional<NamedDrawing> loss_drawing(const History& history) {
  constexpr bool by_step = true;
  Drawing drawing{.x = {.title = "optimizer steps", .whole = true}, .y = {.title = "loss"}};
  const auto add = [&](const char* name, const std::string& tag, CurveStyle style) {
    if (history.contains(tag)) drawing.curves.push_back(curve_of(name, tag, history, by_step, style));
  };
  add("train, single steps", "loss/train_step", CurveStyle::thin);
  add("train, mean of an epoch", "loss/train_epoch", CurveStyle::line);
  add(validate.c_str(), "loss/validate", CurveStyle::marks);
  if (drawing.curves.empty()) return std::nullopt;
  drawing.y.logarithmic = spans_two_decades(drawing.curves);
  return NamedDrawing{"loss", drawing};
}

// The picture and the curve that a tag of a metric belongs to; nullopt: it is none.
std::optional<std::pair<std::string, std::string>> place_of(const std::string& tag) {
  const size_t last = tag.rfind('/');
  if (last == std::string::npos) return std::nullopt;
  const std::string title = tag.substr(0, last), series = tag.substr(last + 1);
  const bool of_stage = series == train || series == validate;
  const bool keyed = title.ends_with(" (train)") || title.ends_with(" (validate)");
  if (title == "loss" || !(of_stage || keyed)) return std::nullopt;
  return std::pair(title, series);
}

}  // namespace

std::vector<NamedDrawing> training_drawings(const std::vector<Scalar>& points) {
  History history;
  std::vector<std::string> tags;  // as they were first met
  for (const Scalar& point : points) {
    auto& of_tag = history[point.tag];
    if (of_tag.empty()) tags.push_back(point.tag);
    of_tag.push_back(point);
  }
  std::vector<NamedDrawing> out;
  if (auto loss = loss_drawing(history)) out.push_back(std::move(*loss));
  for (const std::string& tag : tags) {
    const auto place = place_of(tag);
    if (!place) continue;
    const auto& [title, series] = *place;
    auto at = std::ranges::find(out, title, &NamedDrawing::name);
    if (at == out.end()) {
      out.push_back({title, {.x = {.title = "epochs", .whole = true}, .y = {.title = title}}});
      at = out.end() - 1;
    }
    at->drawing.curves.push_back(curve_of(series, tag, history, false, CurveStyle::marks));
  }
  for (NamedDrawing& one : out)  // whatever was recorded first, training comes first
    std::ranges::stable_partition(one.drawing.curves,
                                  [](const Curve& c) { return c.name.starts_with(train); });
  return out;
}

TrainingPictures::TrainingPictures(std::string run_folder, std::string title, Painter& painter,
                                   const Log& log)
    : folder_(std::move(run_folder)),
      title_(std::move(title)),
      painter_(painter),
      log_(log),
      files_(std::make_unique<detail::PictureFiles>(log)) {}

TrainingPictures::~TrainingPictures() = default;

void TrainingPictures::draw_now_and_then() {
  if (Clock::now() - drawn_ >= std::max<Clock::duration>(std::chrono::minutes(1), 100 * took_)) draw();
}

void TrainingPictures::draw() {
  const Clock::time_point begin = Clock::now();
  try {
    for (auto& [name, drawing] : training_drawings(read_csv(folder_ + "/metrics.csv"))) {
      drawing.title = name + " of " + title_;
      files_->write(folder_ + "/figures/" + detail::file_name_of(name) + ".png", painter_.paint(drawing));
    }
  } catch (const std::exception& e) {
    if (!std::exchange(said_, true)) log_.warn("no pictures of the training: ", e.what());
  }
  drawn_ = Clock::now();
  took_ = drawn_ - begin;
}

}  // namespace lab
