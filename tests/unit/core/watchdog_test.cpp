#include "lab/core/watchdog.h"

#include <gmock/gmock.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <array>

#include "forked_job.h"

namespace {

using namespace std::chrono_literals;
using lab::Collective;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::MatchesRegex;
using testing::SizeIs;
using Codes = std::vector<int>;

// Hangs of a second, ends after a moment.
lab::WatchdogOptions quick() {
  lab::WatchdogOptions options;
  options.limits = {1, 0, 1};
  options.tick = 10ms;
  options.turn = 20ms;
  options.io = 1000ms;
  options.grace = 50ms;
  return options;
}

// The same, for tests in which nobody is to be taken for hanging.
lab::WatchdogOptions patient() {
  auto options = quick();
  options.limits = lab::HangLimits::fixed(60);
  return options;
}

std::string this_host() {
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  return host.data();
}

// `culprit` does that in step 5, behind its first collective; the others wait for it.
ForkedJob::Work in_step_5(int culprit, const std::function<void(Rank&)>& what) {
  return [=](Rank& rank) {
    for (int step = 0; step <= 5; ++step) rank.heartbeat.step(step);
    if (rank.number != culprit) rank.wait_for_ever();
    { const lab::InCollective here(rank.heartbeat, Collective::all_reduce, 4096); }
    what(rank);
  };
}

void die_by(int signal) {
  std::signal(signal, SIG_DFL);  // sanitizers have handlers of their own
  raise(signal);
}

TEST(Watchdog, NamesARankThatIsKilled) {
  ForkedJob job(3, patient(), in_step_5(1, [](Rank&) { die_by(SIGKILL); }));
  EXPECT_EQ(job.end(), Codes({137, 137, 137}));
  EXPECT_THAT(
      job.said(),
      ElementsAre(AllOf(HasSubstr(lab::text("  error: rank 1 on ", this_host(),
                                            " was killed by signal 9 (SIGKILL): in step 5, "
                                            "training, after all-reduce 1 (4.0 KiB). The job is ended; ")),
                        HasSubstr("--resume"))));
}

TEST(Watchdog, TheLowestRankLeftSpeaks) {
  ForkedJob job(3, patient(), in_step_5(0, [](Rank&) { die_by(SIGSEGV); }));
  EXPECT_EQ(job.end(), Codes({139, 139, 139}));
  EXPECT_THAT(job.said(), ElementsAre(AllOf(HasSubstr("[rank 1 of 3] error: rank 0 on "),
                                            HasSubstr("signal 11 (SIGSEGV)"))));
}

TEST(Watchdog, NamesARankThatExitsEarly) {
  for (const int code : {0, 3}) {
    ForkedJob job(2, patient(), in_step_5(1, [=](Rank&) { _exit(code); }));
    EXPECT_EQ(job.end(), Codes({70, code}));
    EXPECT_THAT(job.said(),
                ElementsAre(HasSubstr(lab::text("rank 1 on ", this_host(), " ended with exit code ", code))));
  }
}

TEST(Watchdog, BringsTheLastWordOfARank) {
  ForkedJob job(2, patient(), in_step_5(1, [](Rank& rank) {
                  rank.heartbeat.last_word("bad_alloc: no memory\nfor 12 GiB");
                  die_by(SIGABRT);
                }));
  EXPECT_EQ(job.end(), Codes({134, 134}));
  EXPECT_THAT(job.said(),
              ElementsAre(HasSubstr(
                  "signal 6 (SIGABRT); its last word: bad_alloc: no memory for 12 GiB: in step 5")));
}

TEST(Watchdog, NamesARankWhoseEndTheLauncherHasTakenNoteOf) {
  ForkedJob job(2, patient(), in_step_5(1, [](Rank&) { die_by(SIGKILL); }));
  job.reap(1);
  EXPECT_THAT(job.end().front(), testing::AnyOf(137, 70))
      << "what the kernel still knows depends on its version";
  EXPECT_THAT(job.said(), ElementsAre(HasSubstr(lab::text("rank 1 on ", this_host()))));
}

TEST(Watchdog, SaysNothingAfterARankThatSpokeForItself) {
  ForkedJob job(3, patient(), in_step_5(1, [](Rank& rank) {
                  rank.heartbeat.leave_by_abort(65);
                  die_by(SIGKILL);
                }));
  EXPECT_EQ(job.end(), Codes({65, 137, 65}));
  EXPECT_THAT(job.said(), IsEmpty());
}

TEST(Watchdog, LetsRanksLeaveOneAfterTheOther) {
  Shared left;
  ForkedJob job(3, patient(), [&](Rank& rank) {
    left.await(rank.number);
    left.add();
    if (rank.number == 2) std::this_thread::sleep_for(300ms);  // the others are gone by then
  });
  EXPECT_EQ(job.end(), Codes({0, 0, 0}));
  EXPECT_THAT(job.said(), IsEmpty());
}

TEST(Watchdog, SeesADeathAfterItsOwnRankHasLeft) {
  ForkedJob job(2, patient(), [](Rank& rank) {
    if (rank.number == 1) die_by(SIGKILL);
    rank.heartbeat.leave_in_order();
    for (;;) pause();  // for rank 1, as in MPI_Finalize
  });
  EXPECT_EQ(job.end(), Codes({137, 137}));
  EXPECT_THAT(job.said(), ElementsAre(HasSubstr("rank 1 on ")));
}

// The report's path, removed before and after.
struct Report {
  std::string path = std::filesystem::temp_directory_path() / lab::text("lab_watchdog_test_", getpid());
  Report() { std::filesystem::remove(path); }
  ~Report() { std::filesystem::remove(path); }
  Report(const Report&) = delete;
  Report& operator=(const Report&) = delete;
  std::string text() const {
    std::ostringstream out;
    out << std::ifstream(path).rdbuf();
    return out.str();
  }
};

[[noreturn]] void loop() {
  for (std::atomic<int> rounds = 0;;) ++rounds;
}

TEST(Watchdog, EndsARankThatLoopsAndTheOthers) {
  const Report report;
  for (const int culprit : {0, 2}) {
    ForkedJob job(3, quick(), in_step_5(culprit, [&](Rank& rank) {
                    rank.watchdog.report_to(report.path);
                    loop();
                  }));
    EXPECT_THAT(job.end(), testing::Each(testing::AnyOf(137, 70)))
        << "70: of a rank that saw the culprit gone before it had judged itself";
    EXPECT_THAT(job.said(), SizeIs(testing::Ge(1u)));
    EXPECT_THAT(job.said().front(),
                AllOf(HasSubstr(lab::text("error: rank ", culprit, " on ", this_host(),
                                          " hangs, without a move for ")),
                      HasSubstr("in step 5, training, after all-reduce 1"), HasSubstr("the limit is 1 s")));
    EXPECT_FALSE(std::filesystem::exists(report.path))
        << "only the culprit had a path, and it does not speak";
  }
}

TEST(Watchdog, EndsARankThatIsStoppedAndWritesAllPlaces) {
  const Report report;
  ForkedJob job(3, quick(), [&](Rank& rank) {
    rank.watchdog.report_to(report.path, "more of it: elsewhere");
    in_step_5(1, [](Rank& me) {
      const lab::InCollective here(me.heartbeat, Collective::barrier, 0);
      raise(SIGSTOP);
    })(rank);
  });
  EXPECT_THAT(job.end(), testing::Each(testing::AnyOf(137, 70)))
      << "70: of a rank that saw the culprit gone before it had judged itself";
  EXPECT_THAT(job.said(),
              ElementsAre(AllOf(HasSubstr("rank 1 on "), HasSubstr(" is stopped by a signal"),
                                HasSubstr("in step 5, training, in barrier 2 (the limit is 1 s; "),
                                HasSubstr("All ranks' places are in " + report.path))));
  EXPECT_THAT(report.text(),
              AllOf(HasSubstr("rank 1 on "), HasSubstr("in all-reduce 1, 4.0 KiB"), HasSubstr("in barrier 2"),
                    HasSubstr("stopped"), HasSubstr("\nmore of it: elsewhere\n")));
}

TEST(Watchdog, EndsARankThatIsAlone) {
  ForkedJob job(1, quick(), in_step_5(0, [](Rank&) { loop(); }));
  EXPECT_EQ(job.end(), Codes({137}));
  EXPECT_THAT(job.said().front(), HasSubstr("error: rank 0 on "));
}

TEST(Watchdog, EndsAJobInWhichARankMissedACollective) {
  ForkedJob job(2, quick(), [](Rank& rank) {
    if (rank.number == 0) {
      const lab::InCollective here(rank.heartbeat, Collective::all_reduce, 8);
    }
    rank.wait_for_ever();
  });
  EXPECT_EQ(job.end(), Codes({137, 137}));
  EXPECT_THAT(job.said().front(),
              HasSubstr(lab::text("rank 1 on ", this_host(), " is behind the other ranks")));
}

TEST(Watchdog, AReportThatCannotBeWrittenGoesToTheLog) {
  const Report report;
  mkfifo(report.path.c_str(), 0600);  // opening it takes for ever, as on a file server that does not answer
  for (const std::string& path : {report.path, std::string("/no/such/folder/hang.txt")}) {
    ForkedJob job(2, quick(), [&](Rank& rank) {
      rank.watchdog.report_to(path);
      in_step_5(1, [](Rank&) { raise(SIGSTOP); })(rank);
    });
    EXPECT_EQ(job.end(), Codes({137, 137}));
    EXPECT_THAT(job.said(), SizeIs(5)) << "the line, three of the table, what to do";
    EXPECT_THAT(job.said().front(), AllOf(HasSubstr("rank 1 on "), HasSubstr(path)));
  }
}

TEST(Watchdog, LimitsMayComeLater) {
  auto options = quick();
  options.limits = lab::HangLimits::fixed(0);
  ForkedJob job(2, options, in_step_5(1, [](Rank&) { raise(SIGSTOP); }));
  std::this_thread::sleep_for(1500ms);
  job.signal_all(SIGCONT);
  EXPECT_EQ(job.said(), std::vector<std::string>());
  ForkedJob other(2, options, [](Rank& rank) {
    rank.watchdog.limit({1, 0, 1});
    in_step_5(1, [](Rank&) { raise(SIGSTOP); })(rank);
  });
  EXPECT_EQ(other.end(), Codes({137, 137}));
}

TEST(Watchdog, TimeInWhichAllWereStoppedCountsForNobody) {
  Shared ready, resumed;
  ForkedJob job(2, quick(), [&](Rank& rank) {
    rank.heartbeat.step(1);
    ready.add();
    resumed.await(1);  // without a move
  });
  ready.await(2);
  job.signal_all(SIGSTOP);
  std::this_thread::sleep_for(2500ms);
  job.signal_all(SIGCONT);
  std::this_thread::sleep_for(200ms);
  resumed.add();
  EXPECT_EQ(job.end(), Codes({0, 0}));
  EXPECT_THAT(job.said(), IsEmpty());
}

// From now on this system call is refused, as containers do.
void refuse(uint32_t call) {
  std::array<sock_filter, 4> code = {
      {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
       BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)}};
  const sock_fprog program = {code.size(), code.data()};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
    _exit(99);
}

TEST(Watchdog, SeesADeathWithoutDescriptorsOfProcesses) {
  ForkedJob job(2, patient(), in_step_5(1, [](Rank&) { die_by(SIGKILL); }), [] { refuse(SYS_pidfd_open); });
  EXPECT_EQ(job.end(), Codes({137, 137}));
  EXPECT_THAT(job.said(), ElementsAre(HasSubstr("rank 1 on ")));
}

TEST(Watchdog, ARunGoesOnWhereSharedMemoryIsRefused) {
  ForkedJob job(1, patient(), [](Rank&) {
    refuse(SYS_memfd_create);
    const auto page = lab::HeartbeatPage::make(2);
    const auto other = lab::HeartbeatPage::open(page->address(), 2);
    lab::Heartbeat here(page, 0, 0, 2), there(other, 1, 1, 2);
    lab::Watchdog watchdog(here, lab::Log::silent(), patient());
    here.step(1);
    _exit(!page->shared() && !other->shared() && here.beat(1).rank < 0 && !here.sees_whole_job() ? 42 : 1);
  });
  EXPECT_EQ(job.end(), Codes({42}));
}

}  // namespace
