#include "lab/track/tracker.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>

#include "lab/core/error.h"
#include "unit/temporary_folder.h"

namespace lab {
namespace {

namespace fs = std::filesystem;

class TrackerTest : public testing::Test {
 protected:
  std::string file(const std::string& name) const { return folder_ + "/" + name; }

  static std::string content(const std::string& path) { return test::read_bytes(path); }

  std::vector<std::string> event_files() const {
    std::vector<std::string> out;
    for (const auto& entry : fs::directory_iterator(folder_))
      if (entry.path().filename().string().starts_with("events.out.tfevents."))
        out.push_back(entry.path().string());
    return out;
  }

  const test::TemporaryFolder temporary_;
  const std::string folder_ = temporary_.path();
};

// Lowers the size that files of this process may grow to: the nearest thing to a disk that fills up.
class FullDisk {
 public:
  explicit FullDisk(size_t bytes) {
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    rlimit low = before_;
    low.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &low);
  }
  ~FullDisk() { setrlimit(RLIMIT_FSIZE, &before_); }
  FullDisk(const FullDisk&) = delete;
  FullDisk& operator=(const FullDisk&) = delete;

 private:
  rlimit before_{};
};

// Bit by bit from the definition, unlike what is tested.
uint32_t masked_crc32c(const std::string& bytes) {
  uint32_t crc = 0xffffffff;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int i = 0; i < 8; ++i) crc = (crc & 1) ? (crc >> 1) ^ 0x82f63b78 : crc >> 1;
  }
  crc = ~crc;
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8;
}

template <class T>
T read_at(const std::string& bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

// The messages of an event file; fails where framing or a checksum is wrong.
std::vector<std::string> messages(const std::string& bytes) {
  std::vector<std::string> out;
  for (size_t at = 0; at < bytes.size();) {
    const auto length = bytes.size() - at >= 12 ? read_at<uint64_t>(bytes, at) : UINT64_MAX;
    if (length > bytes.size() - at - 16) {
      ADD_FAILURE() << "half a record at byte " << at;
      break;
    }
    const std::string message = bytes.substr(at + 12, length);
    EXPECT_EQ(read_at<uint32_t>(bytes, at + 8), masked_crc32c(bytes.substr(at, 8)));
    EXPECT_EQ(read_at<uint32_t>(bytes, at + 12 + length), masked_crc32c(message));
    out.push_back(message);
    at += 16 + length;
  }
  return out;
}

TEST_F(TrackerTest, CsvHoldsEachPointInFull) {
  const double tenth = 0.1, third = 1.0 / 3, infinity = std::numeric_limits<double>::infinity();
  const auto tracker = csv_tracker(file("metrics.csv"));
  tracker->scalars({{"loss/train_step", 49, 1, tenth}, {"loss/validate", 49, 1, third}}, 1700000000.25);
  tracker->scalars({{"rate", 99, 2, 1e-7}, {"a", 0, 0, NAN}, {"b", 0, 0, -infinity}}, 1700000001);
  EXPECT_EQ(content(file("metrics.csv")),
            "epoch,step,tag,value,time\n"
            "1,49,loss/train_step,0.1,1700000000.25\n"
            "1,49,loss/validate,0.3333333333333333,1700000000.25\n"
            "2,99,rate,1e-07,1700000001\n"
            "0,0,a,nan,1700000001\n"
            "0,0,b,-inf,1700000001\n");
}

TEST_F(TrackerTest, CsvQuotesTagsThatWouldBreakARow) {
  const auto tracker = csv_tracker(file("metrics.csv"));
  tracker->scalars({{"top,5 \"exact\"", 0, 0, 1}, {"two\nlines", 0, 0, 2}}, 5);
  EXPECT_EQ(content(file("metrics.csv")),
            "epoch,step,tag,value,time\n0,0,\"top,5 \"\"exact\"\"\",1,5\n0,0,\"two\nlines\",2,5\n");
}

TEST_F(TrackerTest, CsvGoesOnAtTheEndOfAnEarlierFile) {
  csv_tracker(file("metrics.csv"))->scalars({{"a", 0, 0, 1}}, 5);
  csv_tracker(file("metrics.csv"), {}, 1)->scalars({{"a", 1, 0, 2}}, 6);
  EXPECT_EQ(content(file("metrics.csv")), "epoch,step,tag,value,time\n0,0,a,1,5\n0,1,a,2,6\n");
}

// A run that goes on from a checkpoint: what was recorded after it is cut off.
TEST_F(TrackerTest, KeepsTheFirstRecordsAndGoesOn) {
  const std::vector<Scalar> first = {{"two\nlines", 0, 0, 1}, {"b", 0, 0, 2}}, second = {{"a", 1, 0, 3}};
  const auto write = [&](const std::vector<std::vector<Scalar>>& all, int64_t csv_keep, int64_t events_keep) {
    const auto csv = csv_tracker(file("metrics.csv"), {}, csv_keep);
    const auto events = tensorboard_tracker(folder_, {}, events_keep);
    for (const auto& points : all) {
      csv->scalars(points, 5);
      events->scalars(points, 5);
    }
    return std::pair(*csv->records(), *events->records());
  };
  EXPECT_EQ(write({first, second}, 0, 0), (std::pair<int64_t, int64_t>(3, 3)));
  const auto csv = content(file("metrics.csv"));
  const auto events = messages(content(event_files().at(0)));
  // Lost: the second call's. Then it is made again.
  EXPECT_EQ(write({second}, 2, 2), (std::pair<int64_t, int64_t>(3, 3)));
  EXPECT_EQ(content(file("metrics.csv")), csv);
  ASSERT_EQ(event_files().size(), 1U);
  EXPECT_EQ(messages(content(event_files().at(0))), events);
  // Half a record at the end, as a power cut leaves it.
  std::ofstream(event_files().at(0), std::ios::app) << "half";
  EXPECT_EQ(write({}, 3, 3), (std::pair<int64_t, int64_t>(3, 3)));
  EXPECT_EQ(messages(content(event_files().at(0))), events);
}

TEST_F(TrackerTest, CsvLeavesTextsOut) {
  const auto tracker = csv_tracker(file("metrics.csv"));
  tracker->text("config", "seed = 0", 5);
  EXPECT_EQ(content(file("metrics.csv")), "epoch,step,tag,value,time\n");
}

TEST_F(TrackerTest, AFileThatCannotBeMadeIsAnErrorThatNamesIt) {
  try {
    csv_tracker(file("missing/metrics.csv"));
    FAIL() << "made a file in a folder that is not there";
  } catch (const IoError& error) {
    EXPECT_NE(std::string(error.what()).find(file("missing/metrics.csv")), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("No such file"), std::string::npos) << error.what();
  }
  EXPECT_THROW(tensorboard_tracker(file("missing")), IoError);
}

TEST_F(TrackerTest, EventFileHasItsNameAndVersion) {
  const auto tracker = tensorboard_tracker(folder_);
  ASSERT_EQ(event_files().size(), 1u);
  const auto found = messages(content(event_files().front()));
  ASSERT_EQ(found.size(), 1u);
  const std::string version = "brain.Event:2";
  // wall_time (9 bytes), step 0, then field 3, a string.
  EXPECT_EQ(found.front().substr(9), std::string("\x10\0\x1a\x0d", 4) + version);
}

TEST_F(TrackerTest, EventsHoldTagStepTimeAndValue) {
  const auto tracker = tensorboard_tracker(folder_);
  tracker->scalars({{"loss", 300, 1, 0.1}, {"acc", 300, 1, 2.0}, {"acc", 301, 1, 3.0}}, 1700000000.5);
  const auto found = messages(content(event_files().front()));
  ASSERT_EQ(found.size(), 3u);  // the version, and one event for each step
  const std::string& event = found[1];
  EXPECT_EQ(event[0], '\x09');
  EXPECT_EQ(read_at<double>(event, 1), 1700000000.5);
  EXPECT_EQ(event.substr(9, 3), "\x10\xac\x02");  // step 300
  EXPECT_EQ(event.substr(12, 2), "\x2a\x19");     // a summary of 25 bytes
  EXPECT_EQ(event.substr(14, 8), "\x0a\x0b\x0a\x04loss");
  EXPECT_EQ(event[22], '\x15');
  EXPECT_EQ(read_at<float>(event, 23), 0.1f);
  EXPECT_EQ(event.substr(27, 7),
            "\x0a\x0a\x0a\x03"
            "acc");
  EXPECT_EQ(read_at<float>(event, 35), 2.0f);
  EXPECT_EQ(event.size(), 39u);
}

TEST_F(TrackerTest, TagsAndTextsThatAreNoUtf8AreMended) {
  const auto tracker = tensorboard_tracker(folder_);
  tracker->scalars({{"a\xff"
                     "b",
                     0, 0, 1}},
                   5);
  tracker->text("note", "x\xc3", 5);
  const std::string bytes = content(event_files().front());
  EXPECT_EQ(messages(bytes).size(), 3u);
  EXPECT_NE(bytes.find("a\xef\xbf\xbd"
                       "b"),
            std::string::npos);
  EXPECT_NE(bytes.find("x\xef\xbf\xbd"), std::string::npos);
}

TEST_F(TrackerTest, EachTrackerHasAnEventFileOfItsOwn) {
  const auto first = tensorboard_tracker(folder_), second = tensorboard_tracker(folder_);
  EXPECT_EQ(event_files().size(), 2u);
}

TEST_F(TrackerTest, WhatWasGivenIsInTheFilesBeforeAnythingIsClosed) {
  const auto csv = csv_tracker(file("metrics.csv"));
  const auto events = tensorboard_tracker(folder_);
  csv->scalars({{"a", 0, 0, 1}}, 5);
  events->scalars({{"a", 0, 0, 1}}, 5);
  EXPECT_TRUE(content(file("metrics.csv")).ends_with("0,0,a,1,5\n"));
  EXPECT_EQ(messages(content(event_files().front())).size(), 2u);
}

TEST_F(TrackerTest, AFullDiskIsSaidOnceAndLeavesOnlyWholeRecords) {
  const Log log;
  log.also_to(file("log.txt"));
  const auto csv = csv_tracker(file("metrics.csv"), log);
  const auto events = tensorboard_tracker(folder_, log);
  {
    const FullDisk full(1000);
    for (int64_t step = 0; step < 40; ++step) {
      csv->scalars({{"loss/train_step", step, 0, 0.5}}, 5);
      events->scalars({{"loss/train_step", step, 0, 0.5}}, 5);
    }
    const std::string rows = content(file("metrics.csv"));
    EXPECT_TRUE(rows.ends_with("loss/train_step,0.5,5\n")) << rows;
    EXPECT_LE(rows.size(), 1000u);
    EXPECT_GT(messages(content(event_files().front())).size(), 2u);
  }
  csv->flush();
  events->flush();
  std::string expected = "epoch,step,tag,value,time\n";
  for (int step = 0; step < 40; ++step) expected += text("0,", step, ",loss/train_step,0.5,5\n");
  EXPECT_EQ(content(file("metrics.csv")), expected);
  EXPECT_EQ(messages(content(event_files().front())).size(), 41u);
  const std::string logged = content(file("log.txt"));
  const size_t first = logged.find("warning: cannot write " + file("metrics.csv"));
  EXPECT_NE(first, std::string::npos) << logged;
  EXPECT_EQ(logged.find("cannot write " + file("metrics.csv"), first + 20), std::string::npos) << logged;
}

TEST_F(TrackerTest, RecordsThatNeverFoundRoomAreNamedAtTheEnd) {
  const Log log;
  log.also_to(file("log.txt"));
  {
    const FullDisk full(1000);
    const auto csv = csv_tracker(file("metrics.csv"), log);
    csv->scalars({{std::string(990, 'a'), 0, 0, 1}}, 5);
  }
  EXPECT_EQ(content(file("metrics.csv")), "epoch,step,tag,value,time\n");
  EXPECT_NE(content(file("log.txt")).find("metrics.csv lacks the last 999 B"), std::string::npos)
      << content(file("log.txt"));
}

TEST_F(TrackerTest, FanoutGivesToEachInOrder) {
  struct Recorder : Tracker {
    Recorder(std::string name, std::string& heard) : name_(std::move(name)), heard_(heard) {}
    void scalars(const std::vector<Scalar>& points, double time) override {
      heard_ += lab::text(name_, " scalars ", points.size(), " ", time, "\n");
    }
    void text(const std::string& tag, const std::string& value, double time) override {
      heard_ += lab::text(name_, " text ", tag, " ", value, " ", time, "\n");
    }
    void flush() override { heard_ += name_ + " flush\n"; }
    void sync() override { heard_ += name_ + " sync\n"; }
    std::optional<int64_t> records() const override { return std::ssize(name_); }
    std::string name_;
    std::string& heard_;
  };
  std::string heard;
  Fanout fanout;
  fanout.scalars({{"a", 0, 0, 1}}, 1);  // to nobody
  fanout.add(std::make_unique<Recorder>("one", heard));
  fanout.add(std::make_unique<Recorder>("two", heard));
  fanout.scalars({{"a", 0, 0, 1}, {"b", 0, 0, 1}}, 2);
  fanout.text("t", "v", 3);
  fanout.flush();
  EXPECT_EQ(heard,
            "one scalars 2 2\ntwo scalars 2 2\none text t v 3\ntwo text t v 3\none flush\ntwo flush\n");
  EXPECT_EQ(fanout.records_of_each(), (std::vector<int64_t>{3, 3}));
  EXPECT_EQ(fanout.records(), 6);
}

}  // namespace
}  // namespace lab
