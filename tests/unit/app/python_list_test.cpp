#include "app/python_list.h"

#include <gtest/gtest.h>

#include <vector>

namespace lab {
namespace {

TEST(PythonList, IsWhatStrWrites) {
  const std::vector<std::pair<std::string, std::string>> tables = {
      {"[]", "[]"},
      {" [ 'a' , 'b' ] ", R"(["a","b"])"},
      {R"(['x', 'it\'s', "d'q"])", R"(["x","it's","d'q"])"},
      {R"(['say "no"', "say \"no\"", 'both \' and "'])", R"(["say \"no\"","say \"no\"","both ' and \""])"},
      {R"(['a, b]', '[c'])", R"(["a, b]","[c"])"},
      {R"(['C:\\x', 'two\nlines', '\t\r'])", R"(["C:\\x","two\nlines","\t\r"])"},
      {R"(['\xe4', '\u20ac', '\U0001f600', 'ä'])", R"(["ä","€","😀","ä"])"},
      {"[1, -2.5, 1e-07, True, False]", "[1,-2.5,1e-07,true,false]"},
      {"[['a', 1], [], [True,],]", R"([["a",1],[],[true]])"},
  };
  for (const auto& [text, json] : tables) {
    const auto list = python_list(text);
    ASSERT_TRUE(list) << text;
    EXPECT_EQ(list->dump(), json) << text;
  }
}

TEST(PythonList, WhatIsNoneIsNothing) {
  for (const char* text : {"",
                           "x",
                           "'a'",
                           "[",
                           "['a'",
                           "['a]",
                           "['a' 'b']",
                           "[,]",
                           "['a',,]",
                           "['a'] 1",
                           "[None]",
                           "[nan]",
                           "[a]",
                           "['a\\'",
                           "['\\x4']",
                           "['\\xg0']",
                           "['\\u12']",
                           "['\\ud800']",
                           "['\\U00110000']",
                           "['\\q']",
                           "[1 2]",
                           "['a'}"})
    EXPECT_FALSE(python_list(text)) << text;
  EXPECT_FALSE(python_list(std::string(100'000, '[')));
}

}  // namespace
}  // namespace lab
