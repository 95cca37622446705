#include "lab/core/heartbeat.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <thread>

#include "lab/core/text.h"

namespace {

using lab::Collective;
using lab::Heartbeat;
using lab::HeartbeatPage;
using lab::Phase;

TEST(Heartbeat, SaysWhereItsRankIs) {
  Heartbeat beat;
  EXPECT_EQ(beat.own().rank, 0);
  EXPECT_EQ(beat.own().pid, getpid());
  EXPECT_GT(beat.own().born, 0);
  EXPECT_EQ(beat.own().phase, Phase::starting);
  EXPECT_EQ(beat.own().step, -1);
  beat.phase(Phase::loading);
  EXPECT_EQ(beat.own().phase, Phase::loading);
  beat.step(12);
  EXPECT_EQ(beat.own().phase, Phase::training);
  EXPECT_EQ(beat.own().step, 12);
  {
    const lab::InCollective here(beat, Collective::all_gather, 99);
    EXPECT_TRUE(beat.own().inside);
    EXPECT_EQ(beat.own().kind, Collective::all_gather);
    EXPECT_EQ(beat.own().bytes, 99);
    EXPECT_EQ(beat.own().collective, 1);
  }
  EXPECT_FALSE(beat.own().inside);
  const lab::InCollective here(beat, Collective::barrier, 0);
  EXPECT_EQ(beat.own().collective, 2);
}

TEST(Heartbeat, EveryChangeShowsAsAMove) {
  Heartbeat beat;
  int64_t last = beat.own().moved_at;
  const std::vector<std::function<void()>> changes = {
      [&] { beat.phase(Phase::training); },        [&] { beat.step(1); }, [&] { beat.moved(); },
      [&] { beat.enter(Collective::barrier, 0); }, [&] { beat.exit(); },  [&] { beat.leave_in_order(); }};
  for (size_t i = 0; i < changes.size(); ++i) {
    std::this_thread::sleep_for(std::chrono::microseconds(10));
    changes[i]();
    EXPECT_GT(beat.own().moved_at, last) << i;
    last = beat.own().moved_at;
  }
}

TEST(Heartbeat, TheFirstLastWordStandsAndIsCut) {
  Heartbeat beat;
  EXPECT_EQ(beat.own().last_word, "");
  beat.last_word(std::string(1000, 'x'));
  beat.last_word("another");
  EXPECT_EQ(beat.own().last_word, std::string(255, 'x'));
}

TEST(Heartbeat, NothingOfAJobIsLeftInTheNextOne) {
  const auto page = HeartbeatPage::make(3);
  Heartbeat first(page, 0, 0, 3), second(page, 1, 1, 3), third(page, 2, 2, 3);
  EXPECT_EQ(lab::who(second.own()), "rank 1");
  first.begin_job(1, 0, 2);
  second.begin_job(2, 0, 1);
  third.begin_job(1, 1, 2);
  EXPECT_EQ(lab::who(first.beat(2)), "rank 1 of job 1");
  EXPECT_TRUE(first.sees_whole_job());
  EXPECT_TRUE(second.sees_whole_job());
  third.begin_job(3, 0, 1);
  EXPECT_FALSE(first.sees_whole_job());
  third.step(7);
  third.step(8);
  third.last_word("broken");
  EXPECT_GT(third.median_step(), 0);
  third.begin_job(4, 0, 1);
  EXPECT_EQ(third.own().step, -1);
  EXPECT_EQ(third.own().phase, Phase::starting);
  EXPECT_EQ(third.own().last_word, "");
  EXPECT_EQ(third.median_step(), 0);
  third.last_word("again");
  EXPECT_EQ(third.own().last_word, "again");
  third.begin_job(0, 0, 1);
  EXPECT_EQ(lab::who(third.own()), "rank 0");
}

TEST(Heartbeat, OneSpeaksForAll) {
  const auto page = HeartbeatPage::make(2);
  Heartbeat first(page, 0, 4, 8), second(page, 1, 5, 8);
  EXPECT_FALSE(first.sees_whole_job());
  EXPECT_TRUE(second.first_to_speak());
  EXPECT_FALSE(first.first_to_speak());
  EXPECT_FALSE(first.was_spoken());
  second.has_spoken();
  EXPECT_TRUE(first.was_spoken());

  const auto other = HeartbeatPage::make(2);
  Heartbeat third(other, 0, 0, 2), fourth(other, 1, 1, 2);
  EXPECT_TRUE(third.sees_whole_job());
  third.leave_by_abort(65);  // it has said why
  EXPECT_FALSE(fourth.first_to_speak());
  EXPECT_EQ(fourth.beat(0).leaving, lab::Leaving::by_abort);
  EXPECT_EQ(fourth.beat(0).exit_code, 65);
}

TEST(Heartbeat, TheMedianIsOfStepsOnly) {
  Heartbeat beat;
  EXPECT_EQ(beat.median_step(), 0);
  beat.step(0);
  EXPECT_EQ(beat.median_step(), 0) << "a step that is under way";
  beat.phase(Phase::validating);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  beat.step(1);
  EXPECT_EQ(beat.median_step(), 0) << "from before to after a validation";
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  beat.step(2);
  EXPECT_GE(beat.median_step(), 0.05);
  for (int64_t i = 3; i < 70; ++i)
    beat.step(i);  // the long one is no longer among the last 64, nor in the middle
  EXPECT_LT(beat.median_step(), 0.05);
  EXPECT_GT(beat.median_step(), 0);
}

// Opens the page in a process of its own, as a rank would, and returns whether its beat could be seen here.
bool seen_from_another_process(const lab::SegmentAddress& address, HeartbeatPage& page) {
  const pid_t child = fork();
  if (child == 0) {
    Heartbeat beat(HeartbeatPage::open(address, 2), 1, 1, 2);
    beat.step(42);
    _exit(beat.sees_whole_job() ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  const Heartbeat here(std::shared_ptr<HeartbeatPage>(&page, [](auto*) {}), 0, 0, 2);
  return here.beat(1).rank == 1 && here.beat(1).step == 42 && status == 0;
}

TEST(HeartbeatPage, IsFoundByItsAddressAndHasNoName) {
  const auto page = HeartbeatPage::make(2);
  EXPECT_TRUE(page->shared());
  for (const auto& file : std::filesystem::directory_iterator("/dev/shm"))
    EXPECT_EQ(file.path().string().find("heartbeat"), std::string::npos) << file.path();
  EXPECT_TRUE(seen_from_another_process(page->address(), *page));
}

TEST(HeartbeatPage, WhatIsNotOursIsNotOpened) {
  const auto page = HeartbeatPage::make(2), other = HeartbeatPage::make(3);
  auto address = page->address();
  address.token ^= 1;
  EXPECT_FALSE(seen_from_another_process(address, *page)) << "the token is another";
  address = other->address();
  address.token = page->address().token;
  EXPECT_FALSE(seen_from_another_process(address, *page)) << "the size is another";
  address = page->address();
  page->close();
  EXPECT_FALSE(seen_from_another_process(address, *page)) << "closed";
  const int null = open("/dev/null", O_RDWR);
  EXPECT_FALSE(seen_from_another_process({getpid(), null, 0}, *page));
  close(null);
  EXPECT_FALSE(seen_from_another_process({}, *page)) << "none was made";
}

}  // namespace
