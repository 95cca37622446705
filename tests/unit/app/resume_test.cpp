#include "app/resume.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "app/run_lock.h"
#include "lab/core/error.h"
#include "unit/temporary_folder.h"

namespace lab {
namespace {

namespace fs = std::filesystem;

class ResumeTest : public testing::Test {
 protected:
  RunFolder run(const std::string& status, const std::string& started, const Launch& launch = {},
                const std::string& name = "mnist-toy_offline") {
    RunFolder folder = RunFolder::create(root_, name);
    RunRecord record;
    record.name = name;
    record.status = status;
    record.started = started;
    record.launch_id = launch.launch_id;
    record.slurm = launch.slurm;
    folder.write_run_json(record);
    return folder;
  }

  // The name of the folder that --resume finds; "": none.
  std::string found(const Launch& launch = {}, const std::string& path = "") {
    CommandLine line;
    line.resume = true;
    line.resume_path = path;
    const auto target = find_run(line, launch, {"mnist", "toy", false}, root_);
    return target ? target->folder.name() : "";
  }

  const test::TemporaryFolder temporary_;
  const std::string root_ = temporary_.path();
};

TEST_F(ResumeTest, TheNewestUnfinishedRunOfThisConfig) {
  EXPECT_EQ(found(), "");
  run("completed", "2026-01-09T00:00:00Z");
  run("failed", "2026-01-01T00:00:00Z", {}, "mnist-cnn_offline");
  EXPECT_EQ(found(), "");
  run("failed", "2026-01-02T00:00:00Z");
  const std::string newest = run("stopped", "2026-01-04T00:00:00Z").name();
  run("interrupted", "2026-01-03T00:00:00Z");
  EXPECT_EQ(found(), newest);
}

TEST_F(ResumeTest, EquallyNewRunsAreListed) {
  const std::string one = run("failed", "2026-01-02T00:00:00Z").path();
  const std::string two = run("running", "2026-01-02T00:00:00Z").path();
  try {
    found();
    FAIL();
  } catch (const UsageError& e) {
    const std::string said = e.what();
    EXPECT_NE(said.find("--resume=" + fs::canonical(one).string() + "\n"), std::string::npos) << said;
    EXPECT_NE(said.find("--resume=" + fs::canonical(two).string()), std::string::npos) << said;
  }
}

TEST_F(ResumeTest, OnlyTheRunOfOurOwnLauncherOrJob) {
  Launch a, b, job, other_task;
  a.launch_id = "a";
  b.launch_id = "b";
  job.slurm = {{"SLURM_JOB_ID", "7"}, {"SLURM_ARRAY_JOB_ID", "6"}, {"SLURM_ARRAY_TASK_ID", "1"}};
  other_task.slurm = {{"SLURM_JOB_ID", "8"}, {"SLURM_ARRAY_JOB_ID", "6"}, {"SLURM_ARRAY_TASK_ID", "2"}};
  const std::string of_a = run("failed", "2026-01-02T00:00:00Z", a).name();
  const std::string of_job = run("failed", "2026-01-01T00:00:00Z", job).name();
  EXPECT_EQ(found(a), of_a);
  EXPECT_EQ(found(b), of_a) << "the user's own --resume, by another lab_run";
  b.own_run_only = true;
  EXPECT_EQ(found(b), "") << "lab_run's --resume";
  EXPECT_EQ(found(job), of_job);
  EXPECT_EQ(found(other_task), "");
  EXPECT_EQ(found(), of_a);  // by hand: the newest of all
}

TEST_F(ResumeTest, OwnRunsAreMeantEvenWhenCompletedOrNamed) {
  Launch lab_run;
  lab_run.launch_id = "a";
  lab_run.own_run_only = true;
  const RunFolder other = run("failed", "2026-01-03T00:00:00Z");
  const std::string of_a = run("completed", "2026-01-02T00:00:00Z", lab_run).name();
  EXPECT_EQ(found(lab_run), of_a);
  EXPECT_EQ(found(lab_run, other.path()), of_a) << "PATH was for the first start";
}

TEST_F(ResumeTest, ARunThatIsBeingWrittenIsLeftAlone) {
  const std::string older = run("stopped", "2026-01-01T00:00:00Z").name();
  const RunFolder newer = run("running", "2026-01-02T00:00:00Z");
  {
    const RunLock lock(newer.path(), false);
    EXPECT_EQ(found(), older);
    try {
      RunLock(newer.path(), true);
      FAIL();
    } catch (const UsageError& e) {
      EXPECT_NE(std::string(e.what()).find(text("process ", getpid())), std::string::npos) << e.what();
    }
  }
  EXPECT_EQ(found(), newer.name());
  const RunLock again(newer.path(), false);
}

// A lock that somebody on another node holds, of which this node's kernel knows nothing.
TEST_F(ResumeTest, ALockOfAnotherNodeCountsWhileItIsYoung) {
  const RunFolder folder = run("running", "2026-01-02T00:00:00Z");
  std::ofstream(folder.file("lock")) << R"({"host":"elsewhere","pid":1,"since":"now"})";
  EXPECT_TRUE(RunLock::is_held(folder.path()));
  EXPECT_THROW(RunLock(folder.path(), false), UsageError);
  { const RunLock ours(folder.path(), true); }
  std::ofstream(folder.file("lock")) << R"({"host":"elsewhere","pid":1,"since":"now"})";
  fs::last_write_time(folder.file("lock"), fs::file_time_type::clock::now() - std::chrono::minutes(10));
  EXPECT_FALSE(RunLock::is_held(folder.path()));
  const RunLock lock(folder.path(), false);
}

TEST_F(ResumeTest, APathIsAFolderOrACheckpoint) {
  const RunFolder folder = run("completed", "2026-01-01T00:00:00Z");
  const std::string checkpoint = folder.checkpoints() + "/last.safetensors";
  std::ofstream(checkpoint) << "x";
  EXPECT_EQ(found({}, folder.path()), folder.name());
  EXPECT_EQ(found({}, checkpoint), folder.name());
  EXPECT_THROW(found({}, root_ + "/none"), InputNotFound);
  EXPECT_THROW(found({}, root_), InputNotFound);
}

// A job that Slurm starts again has the words of its first start, and goes on from where it was.
TEST_F(ResumeTest, APathIsForAJobsFirstStart) {
  Launch first, again, other_job;
  first.slurm = {{"SLURM_JOB_ID", "7"}, {"SLURM_RESTART_COUNT", "0"}};
  again.slurm = {{"SLURM_JOB_ID", "7"}, {"SLURM_RESTART_COUNT", "1"}};
  other_job.slurm = {{"SLURM_JOB_ID", "8"}, {"SLURM_RESTART_COUNT", "1"}};
  const RunFolder folder = run("stopped", "2026-01-01T00:00:00Z", first);
  const std::string checkpoint = fs::canonical(folder.checkpoints()).string() + "/epoch=0-step=2.safetensors";
  std::ofstream(checkpoint) << "x";
  CommandLine line;
  line.resume = true;
  line.resume_path = checkpoint;
  const auto target = [&](const Launch& launch) {
    return find_run(line, launch, {"mnist", "toy", false}, root_)->checkpoint;
  };
  EXPECT_EQ(target(first), checkpoint);
  EXPECT_EQ(target(again), "") << "the newest";
  EXPECT_EQ(target(other_job), checkpoint);
}

TEST_F(ResumeTest, AJobQueuedAgainWhenItsRunIsDoneBeginsNoOther) {
  Launch job;
  job.slurm = {{"SLURM_JOB_ID", "7"}};
  const std::string done = run("completed", "2026-01-01T00:00:00Z", job).name();
  EXPECT_EQ(found(job), "") << "a second command of the same job";
  job.slurm["SLURM_RESTART_COUNT"] = "1";
  EXPECT_EQ(found(job), done);
}

TEST_F(ResumeTest, FoldersOfOthersAreNotInTheWay) {
  const std::string ours = run("stopped", "2026-01-01T00:00:00Z").name();
  const RunFolder closed = run("stopped", "2026-01-02T00:00:00Z");
  fs::permissions(root_, fs::perms(0755));
  fs::permissions(closed.path(), fs::perms::none);
  const uid_t us = geteuid();
  ASSERT_EQ(seteuid(us == 0 ? 65534 : us), 0);  // root's rights would open it
  const std::string seen = found();
  ASSERT_EQ(seteuid(us), 0);
  EXPECT_EQ(seen, ours);
  fs::permissions(closed.path(), fs::perms::owner_all);
}

TEST_F(ResumeTest, ConfigChangesAreToldByWhatTheyMean) {
  std::ofstream(root_ + "/config.toml") << "[trainer.init]\nmax_epochs = 3\nseed = 1\n[config]\nwidth = 8\n";
  Resolved now(4);
  now[0] = {"trainer.init.max_epochs", {.data = int64_t{4}}};
  now[1] = {"trainer.init.seed", {.data = int64_t{1}}};
  now[2] = {"config.width", {.data = int64_t{9}}};
  now[3] = {"config.added", {.data = true}};
  const ConfigChanges changes = config_changes(now, root_ + "/config.toml", false);
  EXPECT_EQ(changes.others, std::vector<std::string>{"config.width: 9, was 8"});
  EXPECT_EQ(changes.harmless, (std::vector<std::string>{"trainer.init.max_epochs: 4, was 3",
                                                        "config.added: true, was not there"}));
  EXPECT_EQ(config_changes(now, root_ + "/config.toml", true).others.size(), 2U) << "the end matters";
}

}  // namespace
}  // namespace lab
