#include "lab/launch/command.h"

#include <gmock/gmock.h>

#include "lab/core/error.h"

namespace {

using lab::LaunchRequest;
using lab::Surroundings;
using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;
using testing::Pair;
using Words = std::vector<std::string>;

LaunchRequest asked(int ranks, Words for_launcher = {}) {
  LaunchRequest request;
  request.ranks = ranks;
  request.for_launcher = std::move(for_launcher);
  request.program = "x";
  request.for_program = {"a.toml"};
  return request;
}

Surroundings workstation(int cores) {
  Surroundings around;
  around.mpirun = "/m";
  around.cores = cores;
  return around;
}

Surroundings slurm(int tasks, int nodes) {
  Surroundings around = workstation(2);
  around.srun = "/s";
  around.slurm = true;
  around.slurm_tasks = tasks;
  around.slurm_nodes = nodes;
  return around;
}

TEST(LaunchCommand, OnAWorkstationMpirunKeepsItsFilesInTheJobsFolder) {
  const auto command = lab::launch_command(asked(4), workstation(4), "/p/x", "/d");
  EXPECT_THAT(command.words, ElementsAre("/m", "-np", "4", "--mca", "orte_tmpdir_base", "/d", "--mca",
                                         "btl_vader_backing_directory", "/d", "-x", "LAB_RUN_ID", "-x",
                                         "LAB_RUN_PROGRESS", "-x", "LAB_RUN_OWN", "/p/x", "a.toml"));
  EXPECT_THAT(command.environment, IsEmpty());
  EXPECT_TRUE(command.on_this_machine);
}

TEST(LaunchCommand, MoreRanksThanCoresAreNotBound) {
  const auto command = lab::launch_command(asked(5), workstation(4), "/p/x", "/d");
  EXPECT_THAT(Words(command.words.begin() + 3, command.words.begin() + 6),
              ElementsAre("--oversubscribe", "--bind-to", "none"));
}

TEST(LaunchCommand, RootIsAllowedWhatOpenMpiAsksFor) {
  Surroundings around = workstation(2);
  around.root = true;
  EXPECT_THAT(lab::launch_command(asked(1), around, "/p/x", "/d").environment,
              ElementsAre(Pair("OMPI_ALLOW_RUN_AS_ROOT", "1"), Pair("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")));
}

TEST(LaunchCommand, OtherMachinesDoNotHaveTheJobsFolder) {
  Surroundings elsewhere = workstation(2);
  elsewhere.other_scheduler = true;
  const std::vector<std::pair<LaunchRequest, Surroundings>> table = {
      {asked(64, {"--hostfile", "h"}), workstation(2)},
      {asked(64, {"-H", "a,b"}), workstation(2)},
      {asked(64), elsewhere}};
  for (const auto& [request, around] : table) {
    const auto command = lab::launch_command(request, around, "/p/x", "/d");
    EXPECT_FALSE(command.on_this_machine);
    EXPECT_THAT(command.words, Not(Contains("/d")));
    EXPECT_THAT(command.words, Not(Contains("--oversubscribe")));
  }
  const auto local =
      lab::launch_command(asked(2, {"--report-bindings", "host"}), workstation(2), "/p/x", "/d");
  EXPECT_TRUE(local.on_this_machine);
  EXPECT_THAT(local.words, Contains("--report-bindings"));
}

TEST(LaunchCommand, InASlurmJobSrunStartsAsManyAsItHasTasks) {
  const auto command = lab::launch_command(asked(0, {"--cpu-bind=cores"}), slurm(8, 2), "/p/x", "/d");
  EXPECT_THAT(command.words, ElementsAre("/s", "-n", "8", "--mpi=pmix", "--kill-on-bad-exit=1",
                                         "--cpu-bind=cores", "/p/x", "a.toml"));
  EXPECT_FALSE(command.on_this_machine);
  EXPECT_THAT(command.environment, IsEmpty());
  const auto one_node = lab::launch_command(asked(3), slurm(8, 1), "/p/x", "/d");
  EXPECT_EQ(one_node.ranks, 3);
  EXPECT_TRUE(one_node.on_this_machine);
  EXPECT_THAT(one_node.environment, ElementsAre(Pair("OMPI_MCA_btl_vader_backing_directory", "/d")));
}

TEST(LaunchCommand, WhatIsMissingIsSaid) {
  EXPECT_THROW(lab::launch_command(asked(0), workstation(2), "/p/x", "/d"), lab::UsageError);
  EXPECT_THROW(lab::launch_command(asked(0), slurm(0, 1), "/p/x", "/d"), lab::UsageError);
  EXPECT_THROW(lab::launch_command(asked(2), Surroundings{}, "/p/x", "/d"), lab::Unavailable);
  Surroundings without_srun = slurm(4, 2);
  without_srun.srun.clear();
  EXPECT_EQ(lab::launch_command(asked(0), without_srun, "/p/x", "/d").words.front(), "/m");
}

TEST(LaunchCommand, ResumeIsAddedOnce) {
  const std::vector<std::pair<Words, Words>> table = {
      {{"a.toml"}, {"a.toml", "--resume"}},
      {{"--resume", "a.toml"}, {"--resume", "a.toml"}},
      {{"a.toml", "--resume=old"}, {"a.toml", "--resume=old"}},
      {{"a.toml", "--resumed"}, {"a.toml", "--resumed", "--resume"}},
      {{"a.toml", "--", "--resume"}, {"a.toml", "--resume", "--", "--resume"}},
  };
  for (const auto& [before, after] : table) EXPECT_EQ(lab::resuming(before), after);
}

TEST(LaunchCommand, AProgramIsTakenFromTheFirstFolderThatHasIt) {
  EXPECT_EQ(lab::find_program("sh", Words{"", "/no/such/folder", "/bin", "/usr/bin"}), "/bin/sh");
  EXPECT_EQ(lab::find_program("/bin/sh", Words{}), "/bin/sh");
  EXPECT_EQ(lab::find_program("passwd", Words{"/etc"}), std::nullopt) << "not executable";
  EXPECT_EQ(lab::find_program("bin", Words{"/usr"}), std::nullopt) << "a folder";
  EXPECT_GE(lab::usable_cores(), 1);
}

}  // namespace
