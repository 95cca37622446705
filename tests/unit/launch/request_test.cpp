#include "lab/launch/request.h"

#include <gmock/gmock.h>

#include "lab/core/error.h"

namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Words = std::vector<std::string>;

TEST(LaunchRequest, OptionsStandBeforeTheProgramAndTheRestIsThePrograms) {
  const auto request =
      lab::parse_launch_request(Words{"-np", "4", "--restarts=2", "--launcher-args", " --map-by  node",
                                      "lab_train", "a.toml", "-np", "--help"});
  EXPECT_EQ(request.ranks, 4);
  EXPECT_EQ(request.restarts, 2);
  EXPECT_THAT(request.for_launcher, ElementsAre("--map-by", "node"));
  EXPECT_EQ(request.program, "lab_train");
  EXPECT_THAT(request.for_program, ElementsAre("a.toml", "-np", "--help"));
  EXPECT_FALSE(request.help);
}

TEST(LaunchRequest, RanksAndRestartsMayBeLeftOut) {
  const auto request = lab::parse_launch_request(Words{"--", "-odd-name"});
  EXPECT_EQ(request.ranks, 0);
  EXPECT_EQ(request.restarts, std::nullopt);
  EXPECT_EQ(request.program, "-odd-name");
  EXPECT_EQ(lab::parse_launch_request(Words{"-n", "3", "x"}).ranks, 3);
}

TEST(LaunchRequest, MistakesAreNamed) {
  const std::vector<std::pair<Words, std::string>> table = {
      {{}, "no program"},
      {{"-np", "2"}, "no program"},
      {{"-np"}, "wants a value"},
      {{"-np", "two", "x"}, "\"two\" is not a whole number from 1"},
      {{"-np", "0", "x"}, "\"0\" is not"},
      {{"-np", "2x", "x"}, "\"2x\" is not"},
      {{"--restarts", "-1", "x"}, "\"-1\" is not a whole number from 0"},
      {{"--restart", "1", "x"}, "did you mean --restarts?"},
      {{"--help=yes"}, "takes no value"},
  };
  for (const auto& [words, message] : table) try {
      lab::parse_launch_request(words);
      ADD_FAILURE() << message << " was not said";
    } catch (const lab::UsageError& problem) {
      EXPECT_THAT(problem.what(), HasSubstr(message));
    }
}

TEST(LaunchRequest, HelpNeedsNoProgramAndNamesEveryOption) {
  EXPECT_TRUE(lab::parse_launch_request(Words{"--help"}).help);
  EXPECT_TRUE(lab::parse_launch_request(Words{"--version"}).version);
  for (const char* name : {"-np", "--restarts", "--launcher-args", "--version", "--help"})
    EXPECT_THAT(lab::launch_help(), HasSubstr(name));
}

}  // namespace
