#include "lab/core/flight_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <random>
#include <thread>

#include "lab/core/errand.h"
#include "lab/core/error.h"
#include "lab/core/flight_log.h"
#include "unit/temporary_folder.h"

namespace {

using lab::Collective;
using lab::DType;
using lab::Errand;
using lab::FlightLog;
using lab::FlightRecord;
using lab::Heartbeat;
using lab::InCollective;
using lab::test::read_bytes;
using lab::test::TemporaryFolder;
using lab::test::write_bytes;
using testing::HasSubstr;

constexpr int64_t ring = 4096;

class FlightRecordTest : public testing::Test {
 protected:
  // A heartbeat that writes to the file.
  std::unique_ptr<Heartbeat> recorded() const {
    auto heartbeat = std::make_unique<Heartbeat>();
    heartbeat->record_in(std::make_unique<FlightRecord>(path_, 3, 8));
    return heartbeat;
  }
  static void pass(Heartbeat& heartbeat, int64_t count) {
    for (int64_t i = 0; i < count; ++i)
      const InCollective here(heartbeat, Collective::all_reduce, 8 * (heartbeat.own().collective + 1),
                              DType::f32);
  }
  void expect_damaged(const std::string& bytes, const std::string& words) const {
    write_bytes(path_, bytes);
    try {
      lab::read_flight_log(path_);
      ADD_FAILURE() << "it was read; " << words;
    } catch (const lab::DataError& e) {
      EXPECT_THAT(e.what(), testing::AllOf(HasSubstr(path_), HasSubstr(words)));
    }
  }

  TemporaryFolder folder_;
  std::string path_ = folder_ / "rank-0003.fr";
};

TEST_F(FlightRecordTest, HoldsWhatARankDid) {
  const auto heartbeat = recorded();
  {
    const Errand errand("agreement");
    const InCollective here(*heartbeat, Collective::all_gather, 64, DType::i64);
    const Errand inner("a name that is too long for it", 12);
  }
  heartbeat->step(7);
  const Errand errand("gradient bucket", 2);
  const InCollective here(*heartbeat, Collective::all_reduce, 4096, DType::f32);

  const FlightLog log = lab::read_flight_log(path_);
  EXPECT_EQ(log.rank, 3);
  EXPECT_EQ(log.ranks, 8);
  EXPECT_EQ(log.pid, getpid());
  EXPECT_FALSE(log.host.empty());
  EXPECT_EQ(log.leaving, lab::Leaving::running);
  EXPECT_EQ(log.last, 2);
  EXPECT_FALSE(log.torn);
  ASSERT_EQ(log.entries.size(), 2U);
  const lab::FlightEntry &first = log.entries[0], &second = log.entries[1];
  EXPECT_EQ(text_of(first), "all-gather 1 (i64, 64 B, agreement)");
  EXPECT_EQ(first.step, -1);
  EXPECT_EQ(first.phase, lab::Phase::starting);
  EXPECT_GE(first.ended, first.began);
  EXPECT_EQ(text_of(second), "all-reduce 2 (f32, 4.0 KiB, gradient bucket 2)");
  EXPECT_EQ(second.step, 7);
  EXPECT_EQ(second.phase, lab::Phase::training);
  EXPECT_EQ(second.ended, 0);
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto began = std::chrono::nanoseconds(log.wall_clock + second.began);
  EXPECT_LT(std::chrono::abs(now - began), std::chrono::minutes(10));
}

TEST_F(FlightRecordTest, EachKindIsReadAsWhatItIs) {
  const auto heartbeat = recorded();
  const std::vector<Collective> kinds = {
      Collective::all_reduce, Collective::broadcast, Collective::all_gather, Collective::exchange,
      Collective::barrier,    Collective::view,      Collective::allocate,   Collective::all_reduce_bf16};
  for (const Collective kind : kinds) const InCollective here(*heartbeat, kind, 64);
  std::vector<Collective> read;
  for (const auto& entry : lab::read_flight_log(path_).entries) read.push_back(entry.kind);
  EXPECT_EQ(read, kinds);
}

TEST_F(FlightRecordTest, KeepsTheLast4096) {
  const auto heartbeat = recorded();
  for (const int64_t count : {ring - 1, ring, ring + 1, 3 * ring + 17}) {
    pass(*heartbeat, count - heartbeat->own().collective);
    const FlightLog log = lab::read_flight_log(path_);
    EXPECT_EQ(log.last, count);
    ASSERT_EQ(std::ssize(log.entries), std::min(count, ring));
    EXPECT_EQ(log.entries.back().sequence, count);
    for (const lab::FlightEntry& entry : log.entries) ASSERT_EQ(entry.bytes, 8 * entry.sequence);
    EXPECT_EQ(log.find(count), &log.entries.back());
    EXPECT_EQ(log.find(count + 1), nullptr);
    EXPECT_EQ(log.find(count - ring), nullptr);
  }
}

TEST_F(FlightRecordTest, BeginsWhereTheCountIs) {
  Heartbeat heartbeat;
  pass(heartbeat, 10);
  heartbeat.record_in(std::make_unique<FlightRecord>(path_, 0, 1));
  EXPECT_EQ(lab::read_flight_log(path_).last, 0);
  pass(heartbeat, 2);
  const FlightLog log = lab::read_flight_log(path_);
  EXPECT_EQ(log.last, 12);
  ASSERT_EQ(log.entries.size(), 2U);
  EXPECT_EQ(log.entries.front().sequence, 11);
}

TEST_F(FlightRecordTest, SaysHowARankLeft) {
  recorded()->leave_in_order();
  EXPECT_EQ(lab::read_flight_log(path_).leaving, lab::Leaving::in_order);
  std::filesystem::remove(path_);
  recorded()->leave_by_abort(65);
  EXPECT_EQ(lab::read_flight_log(path_).leaving, lab::Leaving::by_abort);
  EXPECT_EQ(lab::read_flight_log(path_).exit_code, 65);
  EXPECT_FALSE(lab::read_flight_log(path_).lost);
  std::filesystem::remove(path_);
  recorded()->lost(0);
  EXPECT_EQ(lab::read_flight_log(path_).lost, 0);
}

// In whatever instruction the process dies.
TEST_F(FlightRecordTest, IsWholeAfterAKill) {
  std::mt19937 random(5);
  int torn = 0;
  int64_t most = 0;
  for (int round = 0; round < 40; ++round) {
    std::filesystem::remove(path_);
    const auto heartbeat = recorded();  // mapped by both
    const pid_t child = fork();
    if (child == 0)
      for (;;) pass(*heartbeat, 1000);
    std::this_thread::sleep_for(std::chrono::microseconds(1000 + random() % 20'000));
    lab::read_flight_log(path_);  // while it is written
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    const FlightLog log = lab::read_flight_log(path_);
    for (const lab::FlightEntry& entry : log.entries) ASSERT_EQ(entry.bytes, 8 * entry.sequence);
    torn += log.torn;
    most = std::max(most, log.last);
  }
  EXPECT_GT(most, ring) << "it never went round";
  RecordProperty("torn", torn);
}

TEST_F(FlightRecordTest, AnEntryThatWasBeingWrittenIsNotTakenForWhole) {
  for (const int64_t count : {int64_t{1}, int64_t{5}, ring, ring + 5}) {
    std::filesystem::remove(path_);
    pass(*recorded(), count);
    std::string bytes = read_bytes(path_);
    const auto slot = [&](int64_t sequence) { return bytes.size() - 64 * (ring - sequence % ring); };
    for (const bool cleared : {false, true}) {
      // After the store that announces it; then also after the one that clears the slot.
      const int64_t next = count + 1, nothing = 0;
      std::memcpy(&bytes[40], &next, sizeof next);
      if (cleared) std::memcpy(&bytes[slot(next)], &nothing, sizeof nothing);
      write_bytes(path_, bytes);
      const FlightLog log = lab::read_flight_log(path_);
      EXPECT_TRUE(log.torn);
      EXPECT_EQ(log.last, next);
      EXPECT_EQ(log.entries.back().sequence, count);
      EXPECT_EQ(std::ssize(log.entries), std::min(count, ring - 1));
    }
  }
}

TEST_F(FlightRecordTest, RefusesWhatIsNone) {
  pass(*recorded(), 10);
  const std::string good = read_bytes(path_);
  expect_damaged("", "is no flight record");
  expect_damaged("magic", "is no flight record");
  expect_damaged(std::string(good.size(), '\0'), "is no flight record");
  expect_damaged("\x89HDF" + good, "is no flight record");
  for (const size_t size : {good.size() - 1, good.size() / 2, size_t{200}})
    expect_damaged(good.substr(0, size), lab::text("bytes, not ", good.size()));
  expect_damaged(good + "x", lab::text("bytes, not ", good.size()));
  std::string bad = good;
  bad[16] = 9;  // the rank, of 8
  expect_damaged(bad, "its head");
  bad = good;
  bad[41] = 1;  // collectives announced: 266
  expect_damaged(bad, "its head counts 266");
  bad = good;
  bad[128 + 64 * 5 + 40] = 77;  // a kind
  expect_damaged(bad, "collective 5");
  bad = good;
  bad[128 + 64 * 5] = 6;  // a sequence number
  expect_damaged(bad, "slot 5");
  EXPECT_THROW(lab::read_flight_log(folder_ / "none.fr"), lab::InputNotFound);
}

TEST_F(FlightRecordTest, ReadsNoChangedFileToItsHarm) {
  pass(*recorded(), ring + 100);
  const std::string good = read_bytes(path_);
  std::mt19937 random(11);
  int refused = 0;
  for (int round = 0; round < 200; ++round) {
    std::string bytes = good;
    for (int change = 0; change < 3; ++change)
      bytes[round % 2 == 0 ? random() % 192 : random() % bytes.size()] = static_cast<char>(random());
    write_bytes(path_, bytes);
    try {
      const FlightLog log = lab::read_flight_log(path_);
      lab::find_culprit(std::span(&log, 1));
    } catch (const lab::DataError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 40);
}

TEST_F(FlightRecordTest, AFileThatCannotBeMadeIsAnErrorAndLeavesNothing) {
  const auto refused = [](const std::string& path) {
    try {
      const FlightRecord record(path, 0, 1);
      return std::string();
    } catch (const lab::IoError& e) {
      return std::string(e.what());
    }
  };
  EXPECT_THAT(refused("/no/such/folder/rank-0000.fr"), HasSubstr("No such file or directory"));
  write_bytes(path_, "what is there already");
  EXPECT_THAT(refused(path_), HasSubstr("File exists"));
  EXPECT_EQ(read_bytes(path_), "what is there already");
}

TEST_F(FlightRecordTest, RecordsAreFoundByTheFolderOfTheirRun) {
  std::filesystem::create_directories(folder_ / "flight/9");
  std::filesystem::create_directories(folder_ / "flight/10");
  for (const char* file : {"flight/9/rank-0000.fr", "flight/10/rank-0001.fr", "flight/10/rank-0000.fr"})
    write_bytes(folder_ / file, "");
  const std::vector<std::string> newest = {folder_ / "flight/10/rank-0000.fr",
                                           folder_ / "flight/10/rank-0001.fr"};
  EXPECT_EQ(lab::flight_files(folder_.path()), newest);
  EXPECT_EQ(lab::flight_files(folder_ / "flight"), newest);
  EXPECT_EQ(lab::flight_files(folder_ / "flight/10"), newest);
  EXPECT_EQ(lab::flight_files(folder_ / "flight/9").size(), 1U);
  EXPECT_EQ(lab::flight_files(newest[1]), std::vector{newest[1]});
  EXPECT_EQ(lab::flight_starts(folder_ / "flight"), (std::vector<int64_t>{9, 10}));
  std::filesystem::create_directory(folder_ / "empty");
  EXPECT_THROW(lab::flight_files(folder_ / "empty"), lab::InputNotFound);
}

}  // namespace
