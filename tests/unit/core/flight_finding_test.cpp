#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lab/core/flight_log.h"

namespace {

using lab::Collective;
using lab::DType;
using lab::Flight;
using lab::FlightEntry;
using lab::FlightFinding;
using lab::FlightLog;
using lab::Leaving;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

FlightEntry entry(int64_t sequence, Collective kind = Collective::all_reduce, int64_t bytes = 4096) {
  FlightEntry out;
  out.sequence = sequence;
  out.kind = kind;
  out.type = DType::f32;
  out.phase = lab::Phase::training;
  out.step = sequence / 10;
  out.bytes = bytes;
  out.began = sequence * 100;
  out.ended = out.began + 50;
  return out;
}

// A rank that has been through collectives 101 to `last`; `inside`: it is still in that.
FlightLog rank(int number, int64_t last, bool inside) {
  FlightLog log;
  log.rank = number;
  log.ranks = 4;
  log.host = number < 2 ? "left" : "right";
  log.last = last;
  for (int64_t sequence = 101; sequence <= last; ++sequence) log.entries.push_back(entry(sequence));
  if (inside) log.entries.back().ended = 0;
  return log;
}

using Ranks = std::vector<FlightLog>;

TEST(FlightFinding, NamesTheRankThatHasNotEntered) {
  const Ranks ranks = {rank(0, 345, true), rank(1, 344, false), rank(2, 345, true), rank(3, 345, true)};
  const FlightFinding found = lab::find_culprit(ranks);
  EXPECT_EQ(found.flight, Flight::behind);
  EXPECT_THAT(found.culprits, ElementsAre(1));
  EXPECT_EQ(
      found.line,
      "rank 1 on left has not entered all-reduce 345 (f32, 4.0 KiB), in which ranks 0, 2 and 3 wait; rank 1 "
      "is after all-reduce 344 (f32, 4.0 KiB), in step 34, training");
}

TEST(FlightFinding, NamesSeveral) {
  const Ranks ranks = {rank(0, 344, false), rank(1, 345, true), rank(2, 344, false)};
  const FlightFinding found = lab::find_culprit(ranks);
  EXPECT_THAT(found.culprits, ElementsAre(0, 2));
  EXPECT_THAT(found.line,
              HasSubstr("ranks 0 and 2 have not entered all-reduce 345 (f32, 4.0 KiB), in which rank 1 on "
                        "left waits; rank 0 is after"));
}

TEST(FlightFinding, ClocksDoNotCount) {
  Ranks ranks = {rank(0, 345, true), rank(1, 344, false)};
  for (FlightEntry& one : ranks[1].entries) one.began += 1'000'000'000'000, one.ended += 1'000'000'000'000;
  EXPECT_THAT(lab::find_culprit(ranks).culprits, ElementsAre(1));
}

TEST(FlightFinding, NamesTheRankThatHasNotLeft) {
  for (const int64_t others : {344, 345}) {
    const Ranks ranks = {rank(0, others, others > 344), rank(1, 344, true), rank(2, others, others > 344)};
    const FlightFinding found = lab::find_culprit(ranks);
    EXPECT_EQ(found.flight, Flight::behind);
    EXPECT_THAT(found.culprits, ElementsAre(1));
    EXPECT_THAT(
        found.line,
        HasSubstr("rank 1 on left has not left all-reduce 344 (f32, 4.0 KiB), as ranks 0 and 2 have"));
  }
}

TEST(FlightFinding, NamesTheRankThatEnteredAnother) {
  for (const int culprit : {0, 1, 2}) {
    const std::vector<FlightEntry> others = {entry(345, Collective::broadcast),
                                             entry(345, Collective::all_reduce, 8192)};
    for (FlightEntry other : others) {
      Ranks ranks = {rank(0, 345, true), rank(1, 345, true), rank(2, 345, true)};
      other.ended = 0;
      ranks[static_cast<size_t>(culprit)].entries.back() = other;
      const FlightFinding found = lab::find_culprit(ranks);
      EXPECT_EQ(found.flight, Flight::apart);
      EXPECT_THAT(found.culprits, ElementsAre(culprit));
      EXPECT_THAT(found.line, HasSubstr(text_of(other) + ", where ranks "));
      EXPECT_THAT(found.line, HasSubstr(" entered all-reduce 345 (f32, 4.0 KiB)"));
    }
  }
}

TEST(FlightFinding, ComparesTypesAndPurposesToo) {
  for (const bool by_type : {true, false}) {
    Ranks ranks = {rank(0, 345, true), rank(1, 345, true)};
    FlightEntry& changed = ranks[1].entries[200];
    (by_type ? (void)(changed.type = DType::i64) : (void)(changed.purpose = "sums"));
    const FlightFinding found = lab::find_culprit(ranks);
    EXPECT_EQ(found.flight, Flight::apart);
    EXPECT_THAT(found.culprits, ElementsAre(1)) << "of two ranks the first is believed";
    EXPECT_THAT(found.line, HasSubstr("all-reduce 301"));
  }
}

TEST(FlightFinding, WhatSharesMemoryIsNoBarrier) {
  EXPECT_EQ(text_of(entry(7, Collective::view)), "view 7 (f32, 4.0 KiB)");
  EXPECT_EQ(text_of(entry(7, Collective::allocate)), "allocation 7 (f32, 4.0 KiB)");
  EXPECT_EQ(text_of(entry(7, Collective::barrier, 0)), "barrier 7");
}

TEST(FlightFinding, AnExchangeMayHaveAnotherSizeOnEachRank) {
  Ranks ranks = {rank(0, 345, true), rank(1, 345, true)};
  ranks[0].entries[3] = entry(104, Collective::exchange, 8);
  ranks[1].entries[3] = entry(104, Collective::exchange, 16);
  const FlightFinding found = lab::find_culprit(ranks);
  EXPECT_EQ(found.flight, Flight::together);
  EXPECT_THAT(found.culprits, IsEmpty());
  EXPECT_THAT(
      found.line,
      HasSubstr("all ranks are in all-reduce 345 (f32, 4.0 KiB), in step 34, training: none is behind"));
}

TEST(FlightFinding, RanksMayHaveForgottenDifferentCollectives) {
  Ranks ranks = {rank(0, 345, true), rank(1, 340, false)};
  ranks[0].entries.erase(ranks[0].entries.begin(), ranks[0].entries.begin() + 100);
  EXPECT_THAT(lab::find_culprit(ranks).culprits, ElementsAre(1));
}

TEST(FlightFinding, ARankThatAbortedIsTheCulprit) {
  Ranks ranks = {rank(0, 345, true), rank(1, 345, true), rank(2, 344, false)};
  ranks[1].leaving = Leaving::by_abort;
  ranks[1].exit_code = 65;
  const FlightFinding found = lab::find_culprit(ranks);
  EXPECT_EQ(found.flight, Flight::aborted);
  EXPECT_THAT(found.culprits, ElementsAre(1));
  EXPECT_THAT(found.line, HasSubstr("rank 1 on left ended the job with exit code 65, in all-reduce 345"));
}

TEST(FlightFinding, ARankThatOthersSawDieIsTheCulpritWhereverItWas) {
  for (const bool behind : {true, false}) {
    Ranks ranks = {rank(0, 345, true), rank(1, behind ? 344 : 345, !behind), rank(2, 345, true)};
    ranks[2].lost = 1;
    const FlightFinding found = lab::find_culprit(ranks);
    EXPECT_EQ(found.flight, Flight::lost);
    EXPECT_THAT(found.culprits, ElementsAre(1));
    EXPECT_THAT(found.line, testing::StartsWith("rank 1 died or hung, as rank 2 on right saw; "));
    EXPECT_THAT(found.line, HasSubstr(behind ? "rank 1 on left has not entered" : "all ranks are in"));
  }
}

TEST(FlightFinding, ATornEntryCountsAsEntered) {
  Ranks ranks = {rank(0, 345, true), rank(1, 344, false)};
  ranks[1].last = 345;
  ranks[1].torn = true;
  EXPECT_EQ(lab::find_culprit(ranks).flight, Flight::together);
  ranks[0] = rank(0, 346, true);
  const FlightFinding found = lab::find_culprit(ranks);
  EXPECT_THAT(found.culprits, ElementsAre(1));
  EXPECT_THAT(found.line, HasSubstr("rank 1 on left has not left collective 345, as rank 0 on left has; "
                                    "about to enter collective 345"));
}

TEST(FlightFinding, AGoodEndHasNoCulprit) {
  Ranks ranks = {rank(0, 345, false), rank(1, 345, false)};
  EXPECT_EQ(lab::find_culprit(ranks).flight, Flight::none);
  EXPECT_THAT(lab::find_culprit(ranks).line, HasSubstr("no rank waits: all are after all-reduce 345"));
  ranks[0].leaving = Leaving::in_order;
  EXPECT_THAT(lab::find_culprit(ranks).culprits, ElementsAre(1));
  EXPECT_THAT(lab::find_culprit(ranks).line, HasSubstr("rank 1 on left has not left in good order"));
  ranks[1].leaving = Leaving::in_order;
  EXPECT_EQ(lab::find_culprit(ranks).flight, Flight::in_order);
  EXPECT_THAT(lab::find_culprit(ranks).line, HasSubstr("after 345 collectives"));
}

TEST(FlightFinding, OneRankAloneSaysWhereItIs) {
  EXPECT_EQ(lab::find_culprit(Ranks{rank(2, 345, true)}).line,
            "rank 2 on right is in all-reduce 345 (f32, 4.0 KiB), in step 34, training");
  EXPECT_EQ(lab::find_culprit(Ranks{rank(2, 0, false)}).line,
            "rank 2 on right is in no collective since the record was begun");
  EXPECT_EQ(lab::find_culprit(Ranks{rank(0, 0, false), rank(1, 0, false)}).flight, Flight::none);
}

TEST(FlightFinding, ManyRanksAreNamedShortly) {
  Ranks ranks;
  for (int number = 0; number < 20; ++number)
    ranks.push_back(rank(number, number == 7 ? 344 : 345, number != 7));
  EXPECT_THAT(lab::find_culprit(ranks).line, HasSubstr("in which ranks 0, 1, 2, 3, 4, 5 and 13 more wait"));
}

}  // namespace
