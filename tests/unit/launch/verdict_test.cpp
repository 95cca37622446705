#include "lab/launch/verdict.h"

#include <gmock/gmock.h>

#include <csignal>

namespace {

using Action = lab::Verdict::Action;
using testing::HasSubstr;

lab::StartEnd end(int code) { return {code, 0, false, false}; }
lab::StartEnd stopped(int code, int signal, bool saved) { return {code, signal, saved, false}; }

TEST(Verdict, OnlyCrashesAndEarlyStopsAreStartedAgain) {
  for (const int code : {0, 2, 64, 65, 66, 69, 76, 78, 93, 127, 130}) {
    EXPECT_EQ(lab::judge(end(code), {}).action, Action::finish) << code;
    EXPECT_EQ(lab::judge(end(code), {}).code, code);
  }
  for (const int code : {1, 70, 74, 75, 128 + SIGABRT, 128 + SIGKILL, 128 + SIGSEGV, 128 + SIGTERM})
    EXPECT_EQ(lab::judge(end(code), {}).action, Action::restart) << code;
}

TEST(Verdict, WhatWasAskedForIsNotStartedAgain) {
  struct Row {
    int code, signal;
    bool saved;
    int expected;
  };
  const std::vector<Row> table = {
      {75, SIGTERM, true, 75}, {75, SIGUSR1, true, 75},  {75, SIGINT, true, 130},  {130, SIGTERM, true, 130},
      {0, SIGTERM, true, 0},   {1, SIGTERM, true, 75},   {137, SIGINT, true, 130}, {137, SIGINT, false, 137},
      {1, SIGTERM, false, 1},  {78, SIGTERM, false, 78}, {65, SIGTERM, true, 65},
  };
  for (const Row& row : table) {
    const auto verdict = lab::judge(stopped(row.code, row.signal, row.saved), {});
    EXPECT_EQ(verdict.action, Action::finish);
    EXPECT_EQ(verdict.code, row.expected) << row.code << " after signal " << row.signal;
  }
}

TEST(Verdict, TriesEnd) {
  const auto tries = [](std::optional<int> most, int restarts, int fruitless) {
    return lab::judge(end(70), {most, restarts, fruitless});
  };
  EXPECT_EQ(tries({}, 1000, 2).action, Action::restart);
  EXPECT_EQ(tries({}, 2, 3).action, Action::give_up);
  EXPECT_EQ(tries({}, 2, 3).code, 93);
  EXPECT_EQ(tries(0, 0, 1).action, Action::finish);
  EXPECT_EQ(tries(2, 1, 1).action, Action::restart);
  EXPECT_EQ(tries(2, 2, 1).action, Action::finish);
  EXPECT_EQ(tries(2, 2, 1).code, 70);
  EXPECT_EQ(tries(2, 2, 3).code, 93) << "no progress says more than the last start's code";
}

TEST(Verdict, ReasonsAreWords) {
  EXPECT_THAT(lab::reason_for(137), HasSubstr("signal 9 (Killed)"));
  EXPECT_THAT(lab::reason_for(75), HasSubstr("saved"));
  EXPECT_THAT(lab::reason_for(255), HasSubstr("255"));
}

TEST(Progress, TheReportIsReadWholeOrNotAtAll) {
  const auto progress = lab::parse_progress("/runs/a b\n120\n");
  ASSERT_TRUE(progress.has_value());
  EXPECT_EQ(progress->folder, "/runs/a b");
  EXPECT_EQ(progress->step, 120);
  EXPECT_EQ(lab::parse_progress("/r\n0")->step, 0);
  for (const char* text :
       {"", "\n", "/r", "/r\n", "r\n1\n", "/r\nx\n", "/r\n-1\n", "/r\n1x\n", "/r\n99999999999999999999\n"})
    EXPECT_FALSE(lab::parse_progress(text).has_value()) << text;
}

}  // namespace
