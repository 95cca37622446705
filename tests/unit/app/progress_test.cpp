#include "lab/app/progress.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "unit/temporary_folder.h"

namespace lab {
namespace {

namespace fs = std::filesystem;

// What a Progress says in the log, without the times.
class ProgressTest : public testing::Test {
 protected:
  ProgressTest() { log_.also_to(folder_ + "/log.txt"); }
  Progress progress(int64_t max_epochs) {
    return {log_, true, max_epochs, [] { return 0.0; }};
  }

  std::string said() const {
    std::ifstream in(folder_ + "/log.txt");
    std::string out, line;
    while (std::getline(in, line)) out += line.substr(line.find("  ") + 2) + '\n';
    return out;
  }

  const test::TemporaryFolder temporary_;
  const std::string folder_ = temporary_.path();
  Log log_;
};

TEST_F(ProgressTest, LinesOfARun) {
  auto shown = progress(20);
  shown.validation_started(16);
  shown.fit_started(43);
  for (int64_t batch = 0; batch < 43; ++batch)
    shown.step(2, batch, 43, 0.5, 1e-3);  // no line without a terminal
  shown.epoch_finished(
      2, {{"loss/train_epoch", 0.12341}, {"loss/validate", 0.0987}, {"accuracy/validate", 0.972}}, 12345.4);
  shown.finished();
  EXPECT_EQ(said(),
            "Starting validation with 16 batches\n"
            "Starting training with 43 batches\n"
            "Finished epoch 0003/20 (12,345 samples/s)\n"
            "  loss/train_epoch 0.1234,  loss/validate 0.0987,\n"
            "  accuracy/validate 0.972\n");
}

TEST_F(ProgressTest, EpochsWithoutEndValuesOrSpeed) {
  auto shown = progress(-1);
  shown.epoch_finished(0, {}, 999.6);
  shown.epoch_finished(9998, {{"loss/validate", NAN}}, 0);
  shown.epoch_finished(9999, {{"a", -1e-9}, {"b", 3}}, 1234567.8);
  EXPECT_EQ(said(),
            "Finished epoch 0001 (1,000 samples/s)\n"
            "Finished epoch 9999\n"
            "  loss/validate nan\n"
            "Finished epoch 10000 (1,234,568 samples/s)\n"
            "  a -1e-09,  b 3\n");
}

class ProgressBarTest : public testing::Test {
 protected:
  double now_ = 100;
  ProgressBar bar_{20, [this] { return now_; }};
};

TEST_F(ProgressBarTest, ShowsWhereTheEpochStands) {
  EXPECT_EQ(bar_.step(2, 0, 40, 0.123456, 0.0015),
            "epoch 3/20 [            ] 1/40, loss 0.1235, rate 0.0015, -:-- left");
  now_ += 10;  // ten batches in ten seconds
  EXPECT_EQ(bar_.step(2, 10, 40, 0.1, 0.0015),
            "epoch 3/20 [===         ] 11/40, loss 0.1, rate 0.0015, 0:29 left");
  now_ += 29;
  EXPECT_EQ(bar_.step(2, 39, 40, 0.1, 0.0015),
            "epoch 3/20 [============] 40/40, loss 0.1, rate 0.0015, 0:00 left");
}

TEST_F(ProgressBarTest, TimeLeftBeginsAnewWithEachEpoch) {
  bar_.step(0, 0, 100, 1, 1);
  now_ += 1000;  // a slow validation lies between
  EXPECT_NE(bar_.step(1, 0, 100, 1, 1)->find("-:-- left"), std::string::npos);
  now_ += 50;
  EXPECT_NE(bar_.step(1, 1, 100, 1, 1)->find("1:21:40 left"), std::string::npos);
}

TEST_F(ProgressBarTest, TimeLeftOfAnEpochThatBeganInItsMiddle) {
  bar_.step(5, 89, 100, 1, 1);
  now_ += 2;
  EXPECT_NE(bar_.step(5, 91, 100, 1, 1)->find(" 92/100, loss 1, rate 1, 0:08 left"), std::string::npos);
}

TEST_F(ProgressBarTest, AtMostTenTimesASecond) {
  int shown = 0;
  for (int64_t batch = 0; batch < 10000; ++batch) {
    now_ = 100 + static_cast<double>(batch) / 1000;  // ten seconds
    shown += bar_.step(0, batch, 10000, 1, 1).has_value();
  }
  EXPECT_LE(shown, 100);
  EXPECT_GE(shown, 90);
}

TEST(ProgressBar, FitsWhateverTheNumbers) {
  double now = 0;
  ProgressBar bar(1000000, [&] { return now += 1; });
  for (const double value :
       {0.0, -1.23456e-300, 1e300, static_cast<double>(NAN), -static_cast<double>(INFINITY)})
    for (const int64_t batches : {int64_t{0}, int64_t{1}, int64_t{43}, int64_t{1} << 40}) {
      const auto line = bar.step(999999, batches / 2, batches, value, value);
      ASSERT_TRUE(line);
      EXPECT_LE(line->size(), 79u) << *line;
      EXPECT_TRUE(line->starts_with("epoch 1000000/1000000 ")) << *line;
    }
}

TEST(ProgressBar, WithoutAnEndThereIsNoNumberOfEpochs) {
  ProgressBar bar(-1, [] { return 0.0; });
  EXPECT_TRUE(bar.step(4, 0, 10, 1, 1)->starts_with("epoch 5 ["));
}

TEST(ValidationTable, LinesUpTagsAndValues) {
  EXPECT_EQ(validation_table({{"loss/validate", 0.69314718}, {"accuracy/validate", 0.098}}),
            "first validation          value\n"
            "-------------------------------\n"
            "loss/validate          0.693147\n"
            "accuracy/validate         0.098\n"
            "-------------------------------\n");
}

TEST(ValidationTable, FitsEightyColumns) {
  const std::string tag = "accuracy" + std::string(200, 'x') + "/validate";
  std::istringstream table(validation_table({{tag, -1.234567e-200}, {"a", NAN}}));
  std::string line;
  int lines = 0;
  for (; std::getline(table, line); ++lines) EXPECT_EQ(line.size(), 80u) << line;
  EXPECT_EQ(lines, 5);
}

TEST(ValidationTable, KeepsBothEndsOfALongTag) {
  const auto table = validation_table({{"accuracy" + std::string(200, 'x') + "/validate", 1}});
  EXPECT_NE(table.find("accuracyxxx"), std::string::npos);
  EXPECT_NE(table.find("x...x"), std::string::npos);
  EXPECT_NE(table.find("x/validate "), std::string::npos);
}

}  // namespace
}  // namespace lab
