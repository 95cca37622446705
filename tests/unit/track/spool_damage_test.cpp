// A spool that a disk, a crash or an editor has damaged: all that is still readable is kept and sent.

#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "lab/core/error.h"
#include "lab/track/spool.h"
#include "track/spool_reader.h"
#include "track/spool_round.h"
#include "unit/temporary_folder.h"

namespace lab {
namespace {

using detail::read_round;
using detail::Round;
using detail::text_in;
using testing::ElementsAre;
using testing::HasSubstr;

class DamagedSpool : public testing::Test {
 protected:
  DamagedSpool() {
    Spool spool(folder_.path(), Log::silent());
    spool.task(description("first"));
    spool.status("in_progress", "", "");
    spool.scalars({{"loss", 7, 0, 0.5}}, 1);
    spool.console("info", "hello");
    spool.status("completed", "", "");
  }
  static TaskDescription description(const std::string& token) {
    TaskDescription task;
    task.stem = "a-b";
    task.token = token;
    return task;
  }
  std::string bytes() const { return test::read_bytes(path_); }
  void replace(const std::string& words, const std::string& others) {
    std::string all = bytes();
    const size_t at = all.find(words);
    ASSERT_NE(at, std::string::npos) << words;
    test::write_bytes(path_, all.replace(at, words.size(), others));
  }
  void append(const std::string& more) { test::write_bytes(path_, bytes() + more); }
  // The types of all that a sender meets.
  std::vector<std::string> sent(int64_t damaged) const {
    std::vector<std::string> types;
    int64_t offset = 0, found = 0;
    for (Round round = read_round(path_, 0); round.end != offset; round = read_round(path_, offset)) {
      for (const auto& record : round.records) types.push_back(text_in(record, "type"));
      found += round.damaged;
      offset = round.end;
    }
    EXPECT_EQ(offset, std::ssize(bytes()));
    EXPECT_EQ(found, damaged);
    return types;
  }

  const test::TemporaryFolder folder_;
  const std::string path_ = folder_ / spool_file;
};

TEST_F(DamagedSpool, ABadLineCostsOnlyItself) {
  replace(R"("iter")", R"("iter)");
  EXPECT_EQ(last_status(folder_.path()), "completed");
  EXPECT_THAT(sent(1), ElementsAre("task", "status", "log", "status"));
  const std::string before = bytes();
  testing::internal::CaptureStderr();
  {
    Spool spool(folder_.path(), Log(0, 1));
    EXPECT_TRUE(spool.has_task());
    spool.console("info", "next");
  }
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("1 of the 5 records in " + path_));
  EXPECT_TRUE(bytes().starts_with(before));
  EXPECT_THAT(bytes(), HasSubstr("next"));
}

TEST_F(DamagedSpool, OnlyALastLineWithoutItsEndIsTakenAway) {
  const std::string whole = bytes();
  append(R"({"type":"log","msg":"tor)");
  EXPECT_EQ(last_status(folder_.path()), "completed");
  EXPECT_GT(bytes().size(), whole.size());  // who only looks takes nothing
  testing::internal::CaptureStderr();
  Spool(folder_.path(), Log(0, 1));
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_EQ(bytes(), whole);
}

TEST_F(DamagedSpool, ATaskThatWasDamagedIsToldAgainAndComesFirst) {
  replace(R"("stem":"a-b")", R"("stem":7,"x":0)");
  EXPECT_THAT(sent(1), ElementsAre("status", "training_stats_scalar", "log", "status"));
  {
    Spool spool(folder_.path(), Log::silent());
    ASSERT_FALSE(spool.has_task());
    spool.task(description("second"));
    EXPECT_TRUE(spool.has_task());
  }
  EXPECT_TRUE(Spool(folder_.path(), Log::silent()).has_task());
  const Round first = read_round(path_, 0);
  ASSERT_EQ(first.records.size(), 2u);
  EXPECT_EQ(detail::description_of(first.records[0]).token, "second");
  EXPECT_EQ(text_in(first.records[1], "type"), "status");
  EXPECT_EQ(detail::digest_of(path_).task->token, "second");
}

TEST_F(DamagedSpool, WhatAServerWouldNotTakeIsSkipped) {
  const std::string point = R"({"type":"training_stats_scalar","metric":"m","variant":"v","iter":1)";
  const std::string line = R"({"type":"log","level":"info","worker":"h","msg":"m")";
  const std::vector<std::string> bad = {R"({"type":"status","status":"completXd","reason":"","message":""})",
                                        R"({"type":"status","status":"failed","reason":"","message":1})",
                                        R"({"type":"model","slot":"best","file":"f","design":""})",
                                        R"({"type":"new","timestamp":1})",
                                        point + R"(,"value":1,"timestamp":"1"})",
                                        point + R"(,"value":"1","timestamp":1})",
                                        line + R"(,"timestamp":"soon"})",
                                        line + R"(,"timestamp":1.5})",
                                        line + R"(,"timestamp":18446744073709551615})",
                                        line + "}",
                                        "[]",
                                        "",
                                        std::string(3, '\0')};
  for (const std::string& record : bad) append(record + "\n");
  append(line + R"(,"timestamp":5})" + "\n");
  const auto damaged = std::ssize(bad);
  EXPECT_THAT(sent(damaged), ElementsAre("task", "status", "training_stats_scalar", "log", "status", "log"));
  EXPECT_EQ(last_status(folder_.path()), "completed");
  EXPECT_EQ(detail::digest_of(path_).damaged, damaged);
}

TEST_F(DamagedSpool, WhatCannotBeReadIsLeftForLater) {
  std::filesystem::remove(path_);
  std::filesystem::create_directory(path_);
  EXPECT_TRUE(read_round(path_, 0).records.empty());
  EXPECT_EQ(read_round(path_, 7).end, 7);
  EXPECT_THROW(last_status(folder_.path()), IoError);
  EXPECT_THROW(Spool(folder_.path(), Log::silent()), IoError);
}

TEST_F(DamagedSpool, NoByteCostsMoreThanItsLine) {
  const std::string whole = bytes();
  const auto lines = std::ranges::count(whole, '\n');
  for (size_t at = 0; at < whole.size(); ++at) {
    std::string changed = whole;
    changed[at] = static_cast<char>(changed[at] ^ 0x80);
    test::write_bytes(path_, changed);
    const detail::SpoolDigest digest = detail::digest_of(path_);
    // A line end that is gone makes one line of two.
    const bool two = whole[at] == '\n';
    ASSERT_EQ(digest.lines, lines - (two && at + 1 < whole.size() ? 1 : 0)) << at;
    ASSERT_EQ(digest.damaged, 1) << at;
    ASSERT_NO_THROW(Spool(folder_.path(), Log::silent())) << at;
    ASSERT_EQ(bytes(),
              two && at + 1 == whole.size() ? whole.substr(0, whole.rfind('\n', at - 1) + 1) : changed)
        << at;
  }
}

}  // namespace
}  // namespace lab
