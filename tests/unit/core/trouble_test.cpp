#include "lab/core/trouble.h"

#include <gtest/gtest.h>
#include <signal.h>

#include "lab/core/text.h"

namespace {

using lab::Collective;
using lab::Hang;
using lab::Phase;
using lab::Place;

// A rank in the middle of training, in all-reduce 7 of step 3.
Place place(int rank, double still) {
  Place at;
  at.beat.rank = rank;
  at.beat.phase = Phase::training;
  at.beat.step = 3;
  at.beat.collective = 7;
  at.beat.kind = Collective::all_reduce;
  at.beat.bytes = 1536;
  at.beat.inside = true;
  at.still = still;
  at.process = 'S';
  return at;
}

Place working(int rank, double still, Phase phase = Phase::training) {
  Place at = place(rank, still);
  at.beat.inside = false;
  at.beat.phase = phase;
  at.process = 'R';
  return at;
}

Place stopped(int rank, double still) {
  Place at = place(rank, still);
  at.process = 'T';
  return at;
}

Place traced(int rank, double still) {
  Place at = place(rank, still);
  at.process = 't';
  return at;
}

Place waiting_in(int rank, double still, int64_t number, Collective kind = Collective::all_reduce,
                 int64_t bytes = 1536) {
  Place at = place(rank, still);
  at.beat.collective = number;
  at.beat.kind = kind;
  at.beat.bytes = bytes;
  return at;
}

// "fine", or which hang and the culprits' ranks: "still 1".
std::string judged(const std::vector<Place>& places, bool whole_job = true, double median_step = 0.1,
                   lab::HangLimits limits = {}) {
  constexpr std::array names = {"still", "behind", "apart", "together", "elsewhere"};
  const auto verdict = lab::judge(places, whole_job, limits, median_step);
  if (!verdict) return "fine";
  std::string out = names.at(static_cast<size_t>(verdict->hang));
  for (const size_t i : verdict->culprits) out += lab::text(' ', places[i].beat.rank);
  return out;
}

TEST(Judge, TheCulpritIsWhoDoesNotWait) {
  EXPECT_EQ(judged({place(0, 29), working(1, 29)}), "fine");
  EXPECT_EQ(judged({place(0, 31), working(1, 31)}), "still 1");
  EXPECT_EQ(judged({place(0, 31), working(1, 31), place(2, 31), working(3, 31)}), "still 1 3");
  EXPECT_EQ(judged({working(0, 31)}), "still 0") << "alone";
  EXPECT_EQ(judged({place(0, 1000), working(1, 1)}), "fine") << "rank 1 is slow, but not too slow";
  EXPECT_EQ(judged({place(0, 31), working(1, 1), working(2, 31)}), "still 2") << "rank 1 does go on";
}

TEST(Judge, AStoppedRankDoesNotWaitWhereverItStands) {
  EXPECT_EQ(judged({place(0, 31), stopped(1, 31)}), "still 1");
  EXPECT_EQ(judged({place(0, 31), stopped(1, 29)}), "fine");
  EXPECT_EQ(judged({stopped(0, 31), waiting_in(1, 31, 9)}), "still 0");
}

TEST(Judge, WithADebuggerNobodyHangs) {
  EXPECT_EQ(judged({place(0, 9000), traced(1, 9000)}), "fine");
  EXPECT_EQ(judged({working(0, 9000), traced(1, 9000)}), "fine");
}

TEST(Judge, EachPhaseHasItsLimit) {
  for (const Phase phase :
       {Phase::starting, Phase::loading, Phase::validating, Phase::saving, Phase::ending}) {
    EXPECT_EQ(judged({place(0, 599), working(1, 599, phase)}), "fine") << lab::name_of(phase);
    EXPECT_EQ(judged({place(0, 601), working(1, 601, phase)}), "still 1") << lab::name_of(phase);
  }
  EXPECT_EQ(judged({working(0, 31)}, true, 0), "fine") << "the first step is not finished";
  EXPECT_EQ(judged({working(0, 601)}, true, 0), "still 0");
}

TEST(Judge, TheLimitFollowsTheStep) {
  EXPECT_EQ(judged({working(0, 99)}, true, 2), "fine");
  EXPECT_EQ(judged({working(0, 101)}, true, 2), "still 0");
  EXPECT_EQ(judged({working(0, 6)}, true, 2, lab::HangLimits::fixed(5)), "still 0");
  EXPECT_EQ(judged({working(0, 4)}, true, 2, lab::HangLimits::fixed(5)), "fine");
  EXPECT_EQ(judged({working(0, 1e9)}, true, 2, lab::HangLimits::fixed(0)), "fine") << "switched off";
  EXPECT_EQ(judged({place(0, 1e9), place(1, 1e9)}, true, 2, lab::HangLimits::fixed(0)), "fine");
  EXPECT_EQ(judged({working(0, 700, Phase::saving)}, true, 2, lab::HangLimits::fixed(900)), "fine");
}

TEST(Judge, WhereAllWaitTheOneBehindIsTheCulprit) {
  EXPECT_EQ(judged({waiting_in(0, 31, 9), waiting_in(1, 31, 8)}), "behind 1");
  EXPECT_EQ(judged({waiting_in(0, 31, 8), waiting_in(1, 31, 9), waiting_in(2, 31, 8)}), "behind 0 2");
  EXPECT_EQ(judged({waiting_in(0, 31, 9), waiting_in(1, 29, 8)}), "fine");
  EXPECT_EQ(judged({waiting_in(0, 29, 9), waiting_in(1, 31, 8)}), "fine");
}

TEST(Judge, WhereAllWaitInOnePlaceNobodyIs) {
  EXPECT_EQ(judged({place(0, 31), place(1, 31)}), "together");
  EXPECT_EQ(judged({place(0, 31), waiting_in(1, 31, 7, Collective::barrier)}), "apart");
  EXPECT_EQ(judged({place(0, 31), waiting_in(1, 31, 7, Collective::all_reduce, 8)}), "apart");
  EXPECT_EQ(
      judged({waiting_in(0, 31, 7, Collective::exchange, 4), waiting_in(1, 31, 7, Collective::exchange, 8)}),
      "together");
}

TEST(Judge, RanksOfOtherNodesGetTheLongestLimit) {
  EXPECT_EQ(judged({place(0, 31), place(1, 31)}, false), "fine");
  EXPECT_EQ(judged({place(0, 599), place(1, 601)}, false), "fine");
  EXPECT_EQ(judged({place(0, 601), place(1, 601)}, false), "elsewhere");
  EXPECT_EQ(judged({place(0, 31), working(1, 31)}, false), "still 1");
}

TEST(Words, HowARankEndedAndWhatTheJobEndsWith) {
  lab::Beat beat;
  EXPECT_EQ(lab::ending_of(beat, SIGKILL), "was killed by signal 9 (SIGKILL)");
  EXPECT_EQ(lab::exit_code_after(beat, SIGKILL), 137);
  EXPECT_EQ(lab::ending_of(beat, SIGSEGV | 0x80), "was killed by signal 11 (SIGSEGV)") << "with a core file";
  EXPECT_EQ(lab::exit_code_after(beat, SIGSEGV | 0x80), 139);
  EXPECT_EQ(lab::ending_of(beat, 3 << 8), "ended with exit code 3 before the job was done");
  EXPECT_EQ(lab::exit_code_after(beat, 3 << 8), 70);
  EXPECT_EQ(lab::exit_code_after(beat, 0), 70) << "it left the others alone";
  EXPECT_EQ(lab::ending_of(beat, std::nullopt), "ended without a word; the launcher's message may say how");
  EXPECT_EQ(lab::exit_code_after(beat, std::nullopt), 70);
  beat.last_word = "label 12\nis too large";
  EXPECT_EQ(lab::ending_of(beat, SIGABRT),
            "was killed by signal 6 (SIGABRT); its last word: label 12 is too large");
  beat.leaving = lab::Leaving::by_abort;
  beat.exit_code = 65;
  EXPECT_EQ(lab::exit_code_after(beat, SIGKILL), 65);
}

TEST(Words, APlaceNamesStepPhaseAndCollective) {
  EXPECT_EQ(lab::where(place(0, 0).beat), "in step 3, training, in all-reduce 7 (1.5 KiB)");
  EXPECT_EQ(lab::where(working(0, 0, Phase::saving).beat), "in step 3, saving, after all-reduce 7 (1.5 KiB)");
  EXPECT_EQ(lab::where(waiting_in(0, 0, 2, Collective::barrier, 0).beat),
            "in step 3, training, in barrier 2");
  EXPECT_EQ(lab::where({}), "before the first step, starting");
}

std::string said(const std::vector<Place>& places, bool whole_job) {
  const auto verdict = lab::judge(places, whole_job, {}, 0.1);
  return verdict ? lab::hang_line(places, *verdict, "node7") : "";
}

TEST(Words, TheLineNamesRankHostAndPlace) {
  EXPECT_EQ(
      said({place(0, 31), working(1, 32.4)}, true),
      "rank 1 on node7 hangs, without a move for 32 s: in step 3, training, after all-reduce 7 (1.5 KiB)");
  EXPECT_EQ(
      said({place(0, 31), stopped(1, 31)}, true),
      "rank 1 on node7 is stopped by a signal, without a move for 31 s: in step 3, training, in all-reduce 7 "
      "(1.5 KiB)");
  EXPECT_EQ(said({place(0, 31), waiting_in(1, 31, 6)}, true),
            "rank 1 on node7 is behind the other ranks, without a move for 31 s: in step 3, training, in "
            "all-reduce "
            "6 (1.5 KiB)");
  EXPECT_EQ(said({place(4, 601), place(5, 601)}, false),
            "all ranks on node7 wait for a rank on another node, without a move for 601 s: rank 4 in step 3, "
            "training, in all-reduce 7 (1.5 KiB)");
  EXPECT_NE(said({place(0, 31), place(1, 31)}, true).find("wait in the same collective, which does not end"),
            std::string::npos);
  std::vector<Place> many(9, working(8, 31));
  EXPECT_NE(said(many, true).find("; and 6 more ranks"), std::string::npos);
}

TEST(Words, TheTableHasALineForEachRank) {
  std::vector<Place> places = {place(0, 31.2), stopped(1, 1e6)};
  places[1].beat.last_word = "one\ntwo";
  const std::string table = lab::table_of(places, "node7");
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 3);
  EXPECT_NE(table.find("in all-reduce 7, 1.5 KiB"), std::string::npos);
  EXPECT_NE(table.find("stopped"), std::string::npos);
  EXPECT_NE(table.find("last word: one two"), std::string::npos);
}

}  // namespace
