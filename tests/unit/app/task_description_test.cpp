#include "app/task_description.h"

#include <gtest/gtest.h>

namespace lab {
namespace {

TaskParameter parameter(Value value) { return task_parameter("config.model.depth", value); }

TEST(TaskParameter, IsWrittenAsPythonWould) {
  EXPECT_EQ(parameter({true}).name, "config/model/depth");
  const auto expect = [](Value value, const std::string& text, const std::string& type) {
    const TaskParameter out = parameter(std::move(value));
    EXPECT_EQ(out.value, text);
    EXPECT_EQ(out.type, type);
  };
  expect({true}, "True", "bool");
  expect({int64_t{-4}}, "-4", "int");
  expect({0.001}, "0.001", "float");
  expect({1.0}, "1.0", "float");
  expect({1e-7}, "1e-07", "float");
  expect({std::string("a b")}, "a b", "str");
  expect({std::string()}, "", "str");
  expect({Array{{int64_t{5}}, {std::string("x\"")}, {2.5}}}, R"([5,"x\"",2.5])", "list");
}

TEST(TaskParameter, AndBackIntoToml) {
  EXPECT_EQ(toml_of_parameter("True", "bool"), "true");
  EXPECT_EQ(toml_of_parameter("False", ""), "false");
  EXPECT_EQ(toml_of_parameter("0.5", "float"), "0.5");
  EXPECT_EQ(toml_of_parameter("1e-07", "float"), "1e-07");
  EXPECT_EQ(toml_of_parameter("plain words", "str"), "plain words");
  EXPECT_EQ(toml_of_parameter("", "str"), "");
  EXPECT_EQ(toml_of_parameter("", ""), std::nullopt);
  EXPECT_EQ(toml_of_parameter("None", ""), std::nullopt);
  EXPECT_EQ(toml_of_parameter("[1, 2]", "list/int"), "[1,2]");
  EXPECT_EQ(toml_of_parameter(R"(['x', 'it\'s', "d'q"])", "list"), R"(["x","it's","d'q"])");
  EXPECT_EQ(toml_of_parameter("[a, b]", "list"), "[a, b]");  // refused as what it is, with its name
}

TEST(TaskScript, HasNoCredentials) {
  EXPECT_EQ(without_credentials("https://user:secret@host/a.git"), "https://host/a.git");
  EXPECT_EQ(without_credentials("https://token@host/a@b.git"), "https://host/a@b.git");
  EXPECT_EQ(without_credentials("https://host/a@b.git"), "https://host/a@b.git");
  EXPECT_EQ(without_credentials("git@host:a/b.git"), "git@host:a/b.git");
  EXPECT_EQ(without_credentials("ssh://git:pw@host:22/a"), "ssh://host:22/a");
}

}  // namespace
}  // namespace lab
