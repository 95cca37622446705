#include "lab/track/spool.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "unit/temporary_folder.h"

namespace lab {
namespace {

using Json = nlohmann::json;

std::vector<Json> records_in(const std::string& folder) {
  std::vector<Json> records;
  std::ifstream in(folder + "/" + spool_file);
  for (std::string line; std::getline(in, line);) records.push_back(Json::parse(line));
  return records;
}

TEST(Spool, HoldsWhatItWasTold) {
  const test::TemporaryFolder folder;
  {
    Spool spool(folder.path(), Log::silent());
    EXPECT_FALSE(spool.has_task());
    TaskDescription task;
    task.stem = "a-b";
    task.parameters = {{"x", "1", "int"}};
    spool.task(task);
    spool.scalars({{"loss/train", 7, 1, 0.25}, {"epoch", 7, 1, 1}}, 12.5);
    spool.console("warning", "a line");
    spool.plot("roc", "valid", 3, "{}");
    spool.model("best", "/f", 8, "notes");
    spool.status("completed", "why", "how");
    EXPECT_TRUE(spool.has_task());
    EXPECT_EQ(spool.iteration(), 7);
    EXPECT_EQ(spool.records(), std::nullopt);
  }
  const auto records = records_in(folder.path());
  ASSERT_EQ(records.size(), 7u);
  EXPECT_EQ(records[0]["parameters"][0]["value"], "1");
  EXPECT_EQ(records[1]["type"], "training_stats_scalar");
  EXPECT_EQ(records[1]["metric"], "loss");
  EXPECT_EQ(records[1]["variant"], "train");
  EXPECT_EQ(records[1]["iter"], 7);
  EXPECT_EQ(records[1]["value"], 0.25);
  EXPECT_EQ(records[1]["timestamp"], 12500);
  EXPECT_EQ(records[3]["msg"], "a line");
  EXPECT_EQ(records[3]["level"], "warning");
  EXPECT_EQ(records[4]["plot_str"], "{}");
  EXPECT_EQ(records[5]["slot"], "best");
  EXPECT_EQ(records[6]["status"], "completed");
}

TEST(Spool, GoesOnBehindTheLastWholeLine) {
  const test::TemporaryFolder folder;
  {
    Spool spool(folder.path(), Log::silent());
    TaskDescription task;
    task.stem = "a-b";
    task.parameters = {{"x", "1", "int"}};
    spool.task(task);
    spool.scalars({{"a", 41, 0, 1}}, 1);
  }
  std::ofstream(folder.path() + "/" + spool_file, std::ios::app) << R"({"type":"log","msg":"tor)";
  {
    Spool spool(folder.path(), Log::silent());
    EXPECT_TRUE(spool.has_task());
    EXPECT_EQ(spool.iteration(), 41);
    spool.console("info", "next");
  }
  const auto records = records_in(folder.path());
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(records[2]["msg"], "next");
}

TEST(Spool, LeavesOutWhatIsNotFinite) {
  const test::TemporaryFolder folder;
  {
    Spool spool(folder.path(), Log::silent());
    spool.scalars({{"a", 1, 0, NAN}, {"b", 1, 0, INFINITY}, {"c", 1, 0, 2}}, 1);
  }
  const auto records = records_in(folder.path());
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0]["metric"], "c");
}

// Its warning would come back to it as a line of the console, while it holds its own mutex.
TEST(Spool, MayWarnInALogThatTellsIt) {
  const test::TemporaryFolder folder;
  const Log log;
  const auto spool = std::make_shared<Spool>(folder.path(), log);
  log.also_to(folder.path() + "/log.txt",
              [spool](const std::string& level, const std::string& line) { spool->console(level, line); });
  spool->scalars({{"a", 1, 0, NAN}}, 1);
  log.info("a line");
  log.end_sink();
  const auto records = records_in(folder.path());
  ASSERT_EQ(records.size(), 1u);
  EXPECT_NE(records[0]["msg"].get<std::string>().find("a line"), std::string::npos);
}

TEST(Spool, TellsTheLastStatus) {
  const test::TemporaryFolder folder;
  EXPECT_EQ(last_status(folder.path()), "");
  Spool spool(folder.path(), Log::silent());
  spool.status("in_progress", "", "");
  spool.console("info", "x");
  EXPECT_EQ(last_status(folder.path()), "in_progress");
  spool.status("failed", "", "");
  EXPECT_EQ(last_status(folder.path()), "failed");
}

TEST(Spool, LinesOfTheConsoleHaveTimesOfTheirOwnInTheirOrder) {
  const test::TemporaryFolder folder;
  {
    Spool spool(folder.path(), Log::silent());
    const auto write = [&spool] {
      for (int i = 0; i < 500; ++i) spool.console("info", "x");
    };
    std::thread other(write);
    write();
    other.join();
  }
  {
    Spool spool(folder.path(), Log::silent());  // a later process, whose clock may be behind
    spool.console("info", "y");
  }
  int64_t before = 0;
  const auto records = records_in(folder.path());
  ASSERT_EQ(records.size(), 1001u);
  for (const auto& record : records) {
    EXPECT_GT(record["timestamp"].get<int64_t>(), before);
    before = record["timestamp"];
  }
}

TEST(Spool, TextThatIsNoUtf8IsMended) {
  const test::TemporaryFolder folder;
  Spool(folder.path(), Log::silent()).console("info", "a\xff\nb");
  ASSERT_EQ(records_in(folder.path()).size(), 1u);
}

}  // namespace
}  // namespace lab
