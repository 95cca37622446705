#include "lab/track/training_pictures.h"

#include <gmock/gmock.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "track/event_record.h"
#include "track/picture_files.h"
#include "unit/temporary_folder.h"

namespace lab {
namespace {

using testing::ElementsAre;

std::vector<std::string> names_of(const std::vector<NamedDrawing>& list) {
  std::vector<std::string> out;
  for (const auto& one : list) {
    out.push_back(one.name + ":");
    for (const Curve& curve : one.drawing.curves) out.push_back(curve.name);
  }
  return out;
}

// Two epochs of two steps, with a validation before them.
std::vector<Scalar> two_epochs() {
  return {{"loss/validate", 0, 0, 9},     {"accuracy/validate", 0, 0, 0.1}, {"loss/train_step", 0, 0, 8},
          {"loss/train_step", 1, 0, 6},   {"loss/train_epoch", 1, 0, 7},    {"accuracy/train", 1, 0, 0.5},
          {"loss/validate", 1, 0, 5},     {"accuracy/validate", 1, 0, 0.6}, {"epoch", 1, 0, 0},
          {"loss/train_step", 2, 1, 4},   {"loss/train_step", 3, 1, 2},     {"loss/train_epoch", 3, 1, 3},
          {"accuracy/train", 3, 1, 0.75}, {"loss/validate", 3, 1, 1},       {"accuracy/validate", 3, 1, 0.8},
          {"learning_rate", 3, 1, 0.1},   {"throughput/seconds", 3, 1, 7}};
}

TEST(TrainingDrawings, AreTheLossAndEachMetric) {
  const auto drawings = training_drawings(two_epochs());
  EXPECT_THAT(names_of(drawings), ElementsAre("loss:", "train, single steps", "train, mean of an epoch",
                                              "validate", "accuracy:", "train", "validate"));
  const auto& loss = drawings[0].drawing.curves;
  EXPECT_THAT(loss[0].x, ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(loss[0].y, ElementsAre(8, 6, 4, 2));
  EXPECT_THAT(loss[1].x, ElementsAre(2, 4));
  EXPECT_THAT(loss[2].x, ElementsAre(0, 2, 4));
  EXPECT_THAT(loss[2].y, ElementsAre(9, 5, 1));
  EXPECT_FALSE(drawings[0].drawing.y.logarithmic);
  const auto& accuracy = drawings[1].drawing.curves;
  EXPECT_THAT(accuracy[0].x, ElementsAre(1, 2));
  EXPECT_THAT(accuracy[1].x, ElementsAre(0, 1, 2));
}

TEST(TrainingDrawings, TheFirstValidationIsKnownFromTheFirstEpochsOwn) {
  const auto places = [](const std::vector<Scalar>& points) {
    return training_drawings(points).back().drawing.curves[0].x;
  };
  EXPECT_THAT(places({{"loss/validate", 0, 0, 9}}), ElementsAre(0));
  EXPECT_THAT(places({{"a/validate", 0, 0, 9}, {"loss/train_epoch", 0, 0, 9}}),
              ElementsAre(1));  // of one step
  EXPECT_THAT(places({{"a/validate", 0, 0, 9}, {"loss/train_epoch", 0, 0, 9}, {"a/validate", 0, 0, 8}}),
              ElementsAre(0, 1));
  EXPECT_THAT(places({{"a/validate", 20, 4, 9}}), ElementsAre(5));  // goes on from another run
}

TEST(TrainingDrawings, ALossOfManySizesIsLogarithmic) {
  const auto logarithmic = [](const std::vector<double>& values) {
    std::vector<Scalar> points;
    for (const double value : values) points.push_back({"loss/train_step", std::ssize(points), 0, value});
    return training_drawings(points)[0].drawing.y.logarithmic;
  };
  EXPECT_TRUE(logarithmic({2.3, 0.02}));
  EXPECT_FALSE(logarithmic({2.3, 0.03}));
  EXPECT_FALSE(logarithmic({2.3, 0, 0.02}));
  EXPECT_FALSE(logarithmic({2.3, -0.02}));
  EXPECT_TRUE(logarithmic({2.3, NAN, 0.02}));
  EXPECT_FALSE(logarithmic({NAN, INFINITY}));
}

TEST(TrainingDrawings, ClassesAreCurvesOfTheirMetric) {
  const auto drawings = training_drawings({{"recall (validate)/cat", 1, 0, 1},
                                           {"recall (validate)/dog", 1, 0, 1},
                                           {"recall (train)/cat", 1, 0, 1}});
  EXPECT_THAT(names_of(drawings), ElementsAre("recall (validate):", "cat", "dog", "recall (train):", "cat"));
  EXPECT_TRUE(training_drawings({{"lr/head", 1, 0, 1}, {"epoch", 1, 0, 1}}).empty());
}

TEST(ReadCsv, GivesBackWhatWasWritten) {
  const test::TemporaryFolder folder;
  const std::string path = folder / "metrics.csv";
  const std::vector<Scalar> points = {{"a", 1, 2, 0.1},
                                      {"top,5 \"exact\"", 3, 4, NAN},
                                      {"\"", 5, 6, -INFINITY},
                                      {"two\nlines", 7, 8, 1e-300}};
  csv_tracker(path)->scalars(points, 5);
  std::ofstream(path, std::ios::app) << "x,1,broken,2,3\n9,9,half,0.";
  const auto found = read_csv(path);
  ASSERT_EQ(found.size(), points.size());
  for (size_t i = 0; i < points.size(); ++i) {
    EXPECT_EQ(found[i].tag, points[i].tag);
    EXPECT_EQ(std::pair(found[i].step, found[i].epoch), std::pair(points[i].step, points[i].epoch));
    EXPECT_TRUE(found[i].value == points[i].value || std::isnan(points[i].value)) << found[i].value;
  }
  EXPECT_TRUE(read_csv(folder / "nothing.csv").empty());
}

TEST(FileName, IsReadableAndLeadsNowhere) {
  using detail::file_name_of;
  EXPECT_EQ(file_name_of("confusion"), "confusion");
  EXPECT_EQ(file_name_of("recall (validate)"), "recall (validate)");
  EXPECT_EQ(file_name_of("größe"), "größe");
  EXPECT_EQ(file_name_of("../../etc/passwd"), "%2E.%2F..%2Fetc%2Fpasswd");
  EXPECT_EQ(file_name_of("."), "%2E");
  EXPECT_EQ(file_name_of(""), "%");
  EXPECT_EQ(file_name_of("a%2Fb"), "a%252Fb");
  EXPECT_EQ(file_name_of(std::string("a\0b\n", 4)), "a%00b%0A");
  const std::string one = file_name_of(std::string(300, '/')), other = file_name_of(std::string(301, '/'));
  EXPECT_LE(one.size(), 200U);
  EXPECT_NE(one, other);
}

TrackedFigure figure(const std::string& name, int64_t epoch, const std::string& png) {
  return {name, "validate", 10 * epoch, epoch, {}, {2, 3, png}};
}

TEST(PictureTracker, MakesAFileOfEachEpoch) {
  const test::TemporaryFolder folder;
  const auto tracker = picture_tracker(folder / "figures");
  tracker->figure(figure("a/b", 0, "first"), 5);
  tracker->figure(figure("a/b", 0, "again"), 5);
  tracker->figure(figure("a/b", 12344, "last"), 5);
  tracker->figure(figure("none", 1, ""), 5);
  EXPECT_EQ(test::read_bytes(folder / "figures/a%2Fb/validate-epoch-0001.png"), "again");
  EXPECT_EQ(test::read_bytes(folder / "figures/a%2Fb/validate-epoch-12345.png"), "last");
  EXPECT_FALSE(std::filesystem::exists(folder / "figures/none"));
  size_t files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder.path()))
    files += entry.is_regular_file() ? 1 : 0;
  EXPECT_EQ(files, 2U);  // nothing half made
}

TEST(PictureTracker, WhatCannotBeWrittenIsSaidOnce) {
  const test::TemporaryFolder folder;
  std::ofstream(folder / "figures") << "in the way";
  Log log;
  log.also_to(folder / "log.txt");
  const auto tracker = picture_tracker(folder / "figures", log);
  for (const int64_t epoch : {0, 1}) tracker->figure(figure("a", epoch, "png"), 5);
  const std::string said = test::read_bytes(folder / "log.txt");
  const size_t first = said.find("warning: cannot write ");
  ASSERT_NE(first, std::string::npos) << said;
  EXPECT_EQ(said.find("cannot write ", first + 20), std::string::npos) << said;
}

TEST(PictureRecord, IsAnImageAsTensorboardHasIt) {
  const std::string record = detail::picture_record("a/b", {2, 3, "png"}, 300, 5);
  const std::string message = record.substr(12, record.size() - 16);
  EXPECT_EQ(message.substr(9, 3), "\x10\xac\x02");  // step 300
  EXPECT_EQ(message.substr(12), std::string("\x2a\x14\x0a\x12\x0a\x03"
                                            "a/b"  // a summary, a value, its tag
                                            "\x22\x0b\x08\x03\x10\x02\x18\x03\x22\x03"
                                            "png"));
  const std::string nothing = detail::picture_record("a/b", {}, 300, 5);
  EXPECT_EQ(nothing.size(), 12U + 9 + 3 + 4);
  EXPECT_EQ(detail::record_end(nothing, 0), nothing.size());
}

}  // namespace
}  // namespace lab
