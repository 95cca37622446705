#include "app/command_line.h"

#include <gtest/gtest.h>

#include <sstream>

namespace {

using lab::CommandLine;
using lab::Program;

CommandLine parse(Program program, std::vector<std::string> words) {
  words.insert(words.begin(), "lab");
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  return lab::parse_command_line(program, static_cast<int>(argv.size()), argv.data());
}

std::string refusal(Program program, const std::vector<std::string>& words) {
  try {
    parse(program, words);
  } catch (const lab::UsageError& e) {
    return e.what();
  }
  return "was taken";
}

using Words = std::vector<std::string>;

TEST(CommandLine, OptionsMayStandBeforeAndBehindTheConfig) {
  for (const Words& words :
       {Words{"-o", "a.toml", "--set", "config.x=[5,8]", "--set=y=1,2", "--backend", "mpi"},
        Words{"--set", "config.x=[5,8]", "--set", "y=1,2", "--backend=mpi", "--offline", "a.toml"}}) {
    const CommandLine line = parse(Program::train, words);
    EXPECT_EQ(line.config, "a.toml");
    EXPECT_EQ(line.sets, (Words{"config.x=[5,8]", "y=1,2"}));
    EXPECT_EQ(line.backend, lab::Backend::mpi);
    EXPECT_TRUE(line.offline);
    EXPECT_FALSE(line.print_config);
  }
}

TEST(CommandLine, WhatIsForTheExperimentReachesItUntouched) {
  const auto arguments = [](const Words& words) { return parse(Program::infer, words).arguments; };
  EXPECT_EQ(arguments({"a.toml", "-o", "w", "-3.5", "--x", "-o"}), (Words{"w", "-3.5", "--x", "-o"}));
  EXPECT_EQ(arguments({"a.toml", "--", "-3.5", "--x"}), (Words{"-3.5", "--x"}));
  EXPECT_EQ(arguments({"a.toml", "--", "--", "x"}), (Words{"--", "x"}));
  EXPECT_EQ(arguments({"a.toml"}), Words{});
  EXPECT_TRUE(parse(Program::infer, {"a.toml", "-o", "w"}).offline);
}

TEST(CommandLine, ResumeTakesAPathOnlyBehindAnEqualsSign) {
  EXPECT_FALSE(parse(Program::train, {"a.toml"}).resume);
  const auto bare = parse(Program::train, {"--resume", "a.toml"});
  EXPECT_TRUE(bare.resume);
  EXPECT_EQ(bare.resume_path, "");
  EXPECT_EQ(bare.config, "a.toml");
  EXPECT_EQ(parse(Program::train, {"a.toml", "--resume=b,c"}).resume_path, "b,c");
  EXPECT_NE(refusal(Program::infer, {"a.toml", "--resume"}).find("unknown option --resume"),
            std::string::npos);
  EXPECT_EQ(help_text(Program::infer).find("--resume"), std::string::npos);
  EXPECT_NE(help_text(Program::train).find("--resume[=PATH]  "), std::string::npos);
}

TEST(CommandLine, WrongWordsAreRefusedByName) {
  EXPECT_NE(refusal(Program::train, {"a.toml", "--ofline"}).find("did you mean --offline"),
            std::string::npos);
  EXPECT_NE(refusal(Program::train, {"a.toml", "--zzzzzzzz"}).find("unknown option --zzzzzzzz"),
            std::string::npos);
  for (const char* later : {"--profile", "--sweep"})
    EXPECT_NE(refusal(Program::train, {"a.toml", later}).find("not in this version"), std::string::npos)
        << later;
  EXPECT_NE(refusal(Program::train, {}).find("wants a config"), std::string::npos);
  EXPECT_NE(refusal(Program::train, {"a.toml", "--set"}).find("wants a value"), std::string::npos);
  EXPECT_NE(refusal(Program::train, {"a.toml", "--offline=1"}).find("takes no value"), std::string::npos);
  EXPECT_NE(refusal(Program::train, {"a.toml", "--backend", "tcp"}).find("tcp"), std::string::npos);
}

TEST(CommandLine, SeveralConfigsAreSeveralJobs) {
  EXPECT_TRUE(parse(Program::train, {"a.toml"}).configs.empty());
  const auto several = parse(Program::train, {"a.toml", "-o", "b.toml", "--resume", "c.toml"});
  EXPECT_EQ(several.configs, (Words{"a.toml", "b.toml", "c.toml"}));
  EXPECT_EQ(several.config, "a.toml");
  EXPECT_TRUE(several.resume);
  EXPECT_TRUE(several.arguments.empty());
  EXPECT_TRUE(parse(Program::infer, {"a.toml", "b.toml"}).configs.empty());
  for (const char* option : {"--dev-run=5", "--resume=a", "--check-gradients", "--debug"})
    EXPECT_NE(
        refusal(Program::train, {"a.toml", "b.toml", option}).find("is for one config, but there are 2"),
        std::string::npos)
        << option;
}

TEST(CommandLine, GpusAreAListOfDifferentOnes) {
  EXPECT_TRUE(parse(Program::train, {"a.toml"}).gpus.empty());
  EXPECT_EQ(parse(Program::train, {"a.toml", "-g", "3,0,12"}).gpus, (std::vector<int>{3, 0, 12}));
  EXPECT_EQ(parse(Program::infer, {"--gpu-devices=1", "a.toml"}).gpus, std::vector<int>{1});
  for (const char* wrong : {"", "a", "1,", ",1", "-1", "1,1", "1;2", "99999999999"})
    EXPECT_NE(refusal(Program::train, {"a.toml", "-g", wrong}).find("no list of different GPUs"),
              std::string::npos)
        << wrong;
}

TEST(CommandLine, ADevRunIsOfSoManyBatchesOrAShareOfThem) {
  EXPECT_EQ(parse(Program::train, {"a.toml"}).dev_run, "");
  EXPECT_EQ(parse(Program::train, {"a.toml", "-d", "5"}).dev_run, "5");
  EXPECT_EQ(parse(Program::train, {"a.toml", "--dev-run=0.25"}).dev_run, "0.25");
  EXPECT_EQ(parse(Program::train, {"a.toml", "-d", "1.0"}).dev_run, "1.0");
  for (const char* wrong : {"0", "-1", "1e-1", "abc", "", "0.0", "1.5", "2x"})
    EXPECT_NE(refusal(Program::train, {"a.toml", "-d", wrong}).find("neither a number of batches"),
              std::string::npos)
        << wrong;
  EXPECT_NE(refusal(Program::infer, {"-d", "1", "a.toml"}).find("unknown option"), std::string::npos);
}

TEST(CommandLine, GradientsAreCheckedInsteadOfARun) {
  EXPECT_FALSE(parse(Program::train, {"a.toml"}).check_gradients);
  EXPECT_TRUE(parse(Program::train, {"a.toml", "--check-gradients"}).check_gradients);
  EXPECT_EQ(parse(Program::train, {"--check-gradients", "a.toml"}).config, "a.toml");
  EXPECT_NE(refusal(Program::train, {"a.toml", "--check-gradients", "--resume"}).find("without --resume"),
            std::string::npos);
  EXPECT_NE(refusal(Program::infer, {"a.toml", "--check-gradients"}).find("unknown option"),
            std::string::npos);
}

TEST(CommandLine, WeightsAreMeasuredInsteadOfARun) {
  EXPECT_FALSE(parse(Program::train, {"a.toml"}).measures());
  const auto tests = parse(Program::train, {"a.toml", "--test", "--resume=b"});
  EXPECT_TRUE(tests.measures() && tests.test && !tests.validate_only && tests.resume);
  const auto validates = parse(Program::train, {"a.toml", "b.toml", "--validate-only", "--check"});
  EXPECT_TRUE(validates.measures() && validates.validate_only && !validates.test);
  for (const Words& words : {Words{"a.toml", "--test", "--validate-only"},
                             {"a.toml", "--test", "--check-gradients"},
                             {"a.toml", "--validate-only", "--check-gradients"}})
    EXPECT_NE(refusal(Program::train, words).find("start it once for each"), std::string::npos);
  for (const char* option : {"--test", "--validate-only"})
    EXPECT_NE(refusal(Program::infer, {"a.toml", option}).find("unknown option"), std::string::npos);
}

TEST(CommandLine, QuestionsNeedNoConfig) {
  EXPECT_TRUE(parse(Program::train, {"--help"}).help);
  EXPECT_TRUE(parse(Program::infer, {"--version"}).version);
  EXPECT_TRUE(parse(Program::train, {"--help-config"}).help_config);
}

TEST(CommandLine, HelpNamesEveryOptionAndFitsTheWidth) {
  for (const Program program : {Program::train, Program::infer}) {
    const std::string help = lab::help_text(program);
    for (const char* option : {"--set", "--offline", "--gpu-devices", "--backend", "--print-config",
                               "--help-config", "--version", "--help"})
      EXPECT_NE(help.find(option), std::string::npos) << option;
    std::istringstream lines(help);
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100u) << line;
  }
}

}  // namespace
