#include "lab/launch/processes.h"

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "lab/core/text.h"

namespace {

using namespace std::literals;

TEST(Processes, AnEntryIsFoundWhole) {
  const std::string_view environ_text = "A=1\0LAB_RUN_ID=abc\0B=2\0"sv;
  EXPECT_TRUE(lab::has_entry(environ_text, "LAB_RUN_ID=abc"));
  EXPECT_TRUE(lab::has_entry("LAB_RUN_ID=abc"sv, "LAB_RUN_ID=abc"));
  for (const char* other : {"LAB_RUN_ID=ab", "LAB_RUN_ID=abcd", "RUN_ID=abc", "C=3"})
    EXPECT_FALSE(lab::has_entry(environ_text, other)) << other;
  EXPECT_FALSE(lab::has_entry(""sv, "A=1"));
}

TEST(Processes, RankAndSignalsAreRead) {
  const auto process =
      lab::job_process(7, "A=1\0PMIX_RANK=3\0"sv, "Name:\tx\nSigIgn:\t0\nSigCgt:\t0000000000000200\n");
  EXPECT_EQ(process.rank, "3");
  EXPECT_TRUE(process.survives_usr1);
  EXPECT_TRUE(lab::job_process(7, ""sv, "\nSigIgn:\t0000000000000200\nSigCgt:\t0\n").survives_usr1);
  EXPECT_FALSE(lab::job_process(7, ""sv, "\nSigIgn:\t0\nSigCgt:\tfffffffffffffdff\n").survives_usr1);
  EXPECT_FALSE(lab::job_process(7, ""sv, "").survives_usr1);
  EXPECT_EQ(lab::job_process(7, "A=1\0"sv, "").rank, "");
}

TEST(Processes, ASignalWaitsForEveryRank) {
  using lab::JobProcess;
  const JobProcess launcher{1, "", false}, ready{2, "0", true}, shell{3, "1", false}, inside{4, "1", true};
  EXPECT_TRUE(lab::ready_for_usr1({launcher, ready}, 1));
  EXPECT_FALSE(lab::ready_for_usr1({launcher, ready}, 2));
  EXPECT_FALSE(lab::ready_for_usr1({launcher, ready, shell}, 2));
  EXPECT_TRUE(lab::ready_for_usr1({launcher, ready, shell, inside}, 2)) << "one process of a rank is enough";
  EXPECT_FALSE(lab::ready_for_usr1({launcher}, 1));
}

TEST(Processes, ThoseOfARunAreFoundAndEnded) {
  const std::string id = lab::text("test", getpid());
  const std::string entry = "LAB_RUN_ID=" + id;
  const pid_t child = fork();
  if (child == 0) {
    char* const words[] = {const_cast<char*>("sleep"), const_cast<char*>("1000"), nullptr};
    char* const environment[] = {const_cast<char*>(entry.c_str()), const_cast<char*>("PMIX_RANK=0"), nullptr};
    execve("/bin/sleep", words, environment);
    _exit(1);
  }
  std::vector<lab::JobProcess> found;
  while (found.empty()) found = lab::processes_of(id);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found.front().pid, child);
  EXPECT_EQ(found.front().rank, "0");
  EXPECT_EQ(lab::wait_until_gone(id, std::chrono::milliseconds(50)), 1);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
  EXPECT_EQ(lab::wait_until_gone(id, std::chrono::milliseconds(50)), 0);
}

}  // namespace
