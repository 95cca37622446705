#include "app/jobs.h"

#include <gtest/gtest.h>

#include <limits>
#include <sstream>

namespace lab {
namespace {

std::vector<int> groups_of(int ranks, int jobs) {
  std::vector<int> groups;
  for (int rank = 0; rank < ranks; ++rank) groups.push_back(rank_groups(rank, ranks, jobs).mine);
  return groups;
}

TEST(Jobs, RanksAreCutIntoGroupsOfNeighboursTheFirstOnesWithOneMore) {
  EXPECT_EQ(groups_of(4, 4), (std::vector<int>{0, 1, 2, 3}));
  EXPECT_EQ(groups_of(4, 2), (std::vector<int>{0, 0, 1, 1}));
  EXPECT_EQ(groups_of(7, 3), (std::vector<int>{0, 0, 0, 1, 1, 2, 2}));
  EXPECT_EQ(groups_of(3, 2), (std::vector<int>{0, 0, 1}));
  EXPECT_EQ(groups_of(1, 3), std::vector<int>{0});
  for (const auto& [ranks, jobs] : {std::pair{9, 4}, {5, 5}, {2, 6}, {13, 5}}) {
    const auto groups = groups_of(ranks, jobs);
    for (int job = 0; job < jobs; ++job)
      EXPECT_EQ(ranks_of_job(job, ranks, jobs),
                ranks < jobs ? 1 : std::count(groups.begin(), groups.end(), job))
          << ranks << " ranks, job " << job << " of " << jobs;
    EXPECT_EQ(rank_groups(0, ranks, jobs).groups, std::min(ranks, jobs));
  }
}

TEST(Jobs, AreCalledByTheirConfigsAndNumberedWhereThoseHaveTheSameName) {
  using Words = std::vector<std::string>;
  EXPECT_EQ(job_labels(Words{"a.toml", "x/b.toml"}), (Words{"a", "b"}));
  EXPECT_EQ(job_labels(Words{"a.toml", "b.toml", "x/a.toml"}), (Words{"1:a", "b", "3:a"}));
}

JobResult result_of(int job, JobStatus status, int code) {
  return {.job = job, .ranks = 1, .status = status, .code = static_cast<ExitCode>(code)};
}

TEST(Jobs, TheFirstFailureIsTheExitCodeThenTheFirstStop) {
  const JobResult done = result_of(0, JobStatus::completed, 0), bad = result_of(1, JobStatus::failed, 65),
                  worse = result_of(2, JobStatus::failed, 70), stopped = result_of(3, JobStatus::stopped, 75),
                  interrupted = result_of(3, JobStatus::stopped, 130),
                  waits = result_of(4, JobStatus::not_started, 75);
  const auto code = [](std::vector<JobResult> results) { return static_cast<int>(exit_code_of(results)); };
  EXPECT_EQ(code({done, done}), 0);
  EXPECT_EQ(code({done, bad, worse}), 65);
  EXPECT_EQ(code({worse, done, bad}), 70);
  EXPECT_EQ(code({stopped, bad}), 65);
  EXPECT_EQ(code({done, stopped, interrupted}), 75);
  EXPECT_EQ(code({interrupted, stopped}), 130);
  EXPECT_EQ(code({done, waits}), 75);
}

TEST(Jobs, AResultIsTheSameAfterItsJourney) {
  JobResult result = result_of(2, JobStatus::failed, 65);
  result.name = "mnist-a_v3";
  result.error = "a label\n\"200\" \xff";
  result.epochs = 7;
  result.best = 0.1;
  result.last = std::numeric_limits<double>::quiet_NaN();
  result.seconds = 1.5;
  const std::string text = to_text(result);
  EXPECT_EQ(text.find('\n'), std::string::npos);
  const JobResult back = job_result_from_text(text);
  EXPECT_EQ(to_text(back), to_text(job_result_from_text(to_text(back))));
  EXPECT_EQ(back.job, 2);
  EXPECT_EQ(back.ranks, 1);
  EXPECT_EQ(back.status, JobStatus::failed);
  EXPECT_EQ(back.code, ExitCode::bad_data);
  EXPECT_EQ(back.name, "mnist-a_v3");
  EXPECT_EQ(back.error.find("a label\n\"200\" "), 0u);
  EXPECT_EQ(back.epochs, 7);
  EXPECT_EQ(back.best, 0.1);
  EXPECT_FALSE(back.last);
  EXPECT_EQ(back.seconds, 1.5);
}

TEST(Jobs, TheTableHasALineForEachAndFits) {
  std::vector<JobResult> results = {
      result_of(0, JobStatus::completed, 0), result_of(1, JobStatus::failed, 65),
      result_of(2, JobStatus::not_started, 75), result_of(3, JobStatus::stopped, 75)};
  results[0].name = "mnist-a_offline";
  results[0].epochs = 20;
  results[0].best = 0.98125;
  results[0].last = 0.5;
  results[0].seconds = 75.9;
  results[3].ranks = 12345;
  results[3].name = "an_experiment_of_a_long_name-and_a_config_v123";
  results[3].epochs = 123456;
  results[3].last = -1.23456e-105;
  results[3].seconds = 35'999;
  const std::vector<std::string> configs = {"a.toml", "x/b.toml", "c.toml", "d.toml"};
  const std::string table = jobs_table(results, configs);
  EXPECT_EQ(table,
            "job  name                 ranks  status      epochs           value    time exit\n"
            "  1  mnist-a_offline          1  completed       20     best 0.9812    1:15    0\n"
            "  2  b                        1  failed           0               -    0:00   65\n"
            "  3  c                        1  not started      0               -       -    -\n"
            "  4  an_experi..nfig_v123 12345  stopped     123456 last -1.23e-105 9:59:59   75\n")
      << table;
  results[3].seconds = 36'000;
  EXPECT_NE(jobs_table(results, configs).find("10 h"), std::string::npos);
  std::istringstream lines(table);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 80u) << line;
}

}  // namespace
}  // namespace lab
