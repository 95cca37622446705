// One file's text: values, places, and what is refused.

#include <gmock/gmock.h>

#include "config_case.h"

namespace lab {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

TEST(Parse, KeepsTypes) {
  const Table table =
      table_of("b = true\ni = 3\nh = 0xff\nf = 3.0\ns = 'x'\na = [1, [2.5, \"y\"]]\nt = { k = 1 }\n");
  EXPECT_EQ(Value{table}.toml(),
            "{ b = true, i = 3, h = 255, f = 3.0, s = \"x\", a = [1, [2.5, \"y\"]], t = { k = 1 } }");
}

TEST(Parse, KeepsTheOrderOfTheFile) {
  EXPECT_EQ(Value{table_of("z = 1\na = 2\n[y]\nc = 3\nb = 4\n[x]\n")}.toml(),
            "{ z = 1, a = 2, y = { c = 3, b = 4 }, x = {} }");
  EXPECT_EQ(Value{table_of("t = { z = 1, a = 2 }\n")}.toml(), "{ t = { z = 1, a = 2 } }");
}

TEST(Parse, KeepsThePlaceOfKeysAndValues) {
  const Table table = table_of("experiment = \"mnist\"\n\n[config]\n  rate   = 0.1\nsteps = [5,\n  8]\n");
  EXPECT_EQ(origin_at(table, "experiment"), "x.toml:1:14");
  EXPECT_EQ(origin_at(table, "config.rate"), "x.toml:4:12");
  EXPECT_EQ(std::get<Array>(find(table, "config.steps")->data)[1].origin.text(), "x.toml:6:3");
  EXPECT_EQ(std::get<Table>(find(table, "config")->data).find("rate")->origin.text(), "x.toml:4:3");
  EXPECT_EQ(table.find("config")->origin.text(), "x.toml:3:2");
}

TEST(Parse, SyntaxErrorsNameTheirPlace) {
  const std::vector<std::pair<std::string, std::string>> cases = {{"a = 1\nb = \n", "x.toml:2:5: "},
                                                                  {"a = many", "x.toml:1:5: "},
                                                                  {"a = 1\na = 2", "x.toml:2:5: "},
                                                                  {"[a", "x.toml:1:3: "},
                                                                  {"a = 1 2", "x.toml:1:"},
                                                                  {"s = \"\xff\"", "x.toml:1:5: "},
                                                                  {"a = 99999999999999999999", "x.toml:1:"}};
  for (const auto& [toml, place] : cases) {
    const std::string error = error_of([&] { table_of(toml); });
    EXPECT_THAT(error, StartsWith(place)) << toml;
    EXPECT_THAT(error, testing::EndsWith("; fix the TOML syntax there")) << toml;
  }
  EXPECT_THAT(error_of([] { table_of("a = 1\na = 2"); }), HasSubstr("cannot redefine existing integer 'a'"));
}

// Where the parser's own behaviour is undefined, it is not asked.
TEST(Parse, WhatTheParserCannotBearIsRefusedBefore) {
  const std::string header = ": after '[' the name of a table is wanted; fix the TOML syntax there";
  const std::string quotes =
      ": a character like this one may stand in quotes only; fix the TOML syntax there";
  const std::string word = ": a quote cannot stand in the middle of a word; fix the TOML syntax there";
  const std::string backslash =
      ": after a backslash, also on the next line, an ASCII character is wanted; move the backslash";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"a = 1\n[ #b]\n", "x.toml:2:3" + header},
      {"[[[a]]]", "x.toml:1:3" + header},
      {"a = [1, }", "x.toml:1:9: '}' cannot close '['; fix the TOML syntax there"},
      {"a = { b = 1 ]", "x.toml:1:13: ']' cannot close '{'; fix the TOML syntax there"},
      {"caf\xc3\xa9 = 1", "x.toml:1:4" + quotes},
      {"a = \"\xc3\xa9\"\xc3\xa9", "x.toml:1:8" + quotes},
      {"a = 0x'''\xc3\xa9'''", "x.toml:1:7" + word},
      {"a\"b\" = 1", "x.toml:1:2" + word},
      {"a = \"\"\"x \\\n  \xc3\xa9\"\"\"", "x.toml:2:3" + backslash},
  };
  for (const auto& [toml, message] : cases)
    EXPECT_EQ(error_of([&, &text = toml] { table_of(text); }), message);
}

TEST(Parse, TextBeyondAsciiMayStandInQuotesAndComments) {
  const Table table = table_of(
      "\xef\xbb\xbf'k\xc3\xa9' = \"\xc3\xa9\" # \xc3\xa9\n"
      "b = \"\"\"\n\xc3\xa9 \\\n  x\"\"\"\n");
  EXPECT_EQ(Value{table}.toml(), "{ \"k\xc3\xa9\" = \"\xc3\xa9\", b = \"\xc3\xa9 x\" }");
}

TEST(Parse, DatesAndTimesAreRefusedTogether) {
  EXPECT_EQ(error_of([] { table_of("a = 1979-05-27\n[b]\nc = [07:32:00]\n"); }),
            "2 mistakes in the configuration:\n"
            "x.toml:1:5: dates and times are no values of lab; put it in quotes to make it a string\n"
            "x.toml:3:6: dates and times are no values of lab; put it in quotes to make it a string");
}

std::string repeated(const std::string& piece, size_t times) {
  std::string out;
  for (size_t i = 0; i < times; ++i) out += piece;
  return out;
}

// A dotted key of this many parts.
std::string key_of(size_t parts) { return "k" + repeated(".k", parts - 1); }

TEST(Limits, LongKeysAreRefusedWherever) {
  const std::string many = "a key of more than 32 parts; is this a config file?";
  const std::string wide = "a key of more than 1024 characters; is this a config file?";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {key_of(33) + " = 1", "x.toml:1:1: " + many},
      {key_of(100000) + " = 1", "x.toml:1:1: " + many},
      {"a = 1\n [" + key_of(33) + "]", "x.toml:2:3: " + many},
      {"[[" + key_of(33) + "]]", "x.toml:1:3: " + many},
      {"a = { b = 1, " + key_of(33) + " = 1 }", "x.toml:1:14: " + many},
      {"a = [{ " + key_of(33) + " = 1 }]", "x.toml:1:8: " + many},
      {"k" + repeated(" . \"k\"", 32) + " = 1", "x.toml:1:1: " + many},
      {"# \"\n'''\n" + key_of(33) + " = 1", ""},  // the string is not closed: the parser's business
      {"a = \"\"\"\n\"\"\"\n" + key_of(33) + " = 1", "x.toml:3:1: " + many},
      {"a = '''''x'''''\n" + key_of(33) + " = 1", "x.toml:2:1: " + many},
      {"a = \"\\\"\" # \"\n" + key_of(33) + " = 1", "x.toml:2:1: " + many},
      {std::string(1025, 'k') + " = 1", "x.toml:1:1: " + wide},
      {"\"" + std::string(1023, 'k') + "\" = 1", "x.toml:1:1: " + wide},
  };
  for (const auto& [toml, message] : cases) {
    const std::string error = error_of([&, &text = toml] { table_of(text); });
    if (message.empty()) {
      EXPECT_THAT(error, HasSubstr("fix the TOML syntax"));
    } else {
      EXPECT_EQ(error, message);
    }
  }
}

TEST(Limits, DeepNestingIsRefused) {
  EXPECT_EQ(error_of([] { table_of("a = " + repeated("[", 65) + repeated("]", 65)); }),
            "x.toml:1:69: arrays and tables nested more than 64 deep; is this a config file?");
  EXPECT_EQ(error_of([] { table_of("a = " + repeated("{a=", 65) + "1" + repeated("}", 65)); }),
            "x.toml:1:197: arrays and tables nested more than 64 deep; is this a config file?");
  EXPECT_THAT(error_of([] { table_of("a = " + repeated("[", 100000)); }),
              HasSubstr("nested more than 64 deep"));
}

TEST(Limits, WhatIsJustAllowedIsRead) {
  EXPECT_EQ(at(table_of(key_of(32) + " = 1"), key_of(32)), "1");
  EXPECT_EQ(at(table_of(std::string(1024, 'k') + " = 1"), std::string(1024, 'k')), "1");
  EXPECT_EQ(at(table_of("a = " + repeated("[", 64) + repeated("]", 64)), "a"),
            repeated("[", 64) + repeated("]", 64));
}

TEST(Limits, LongStringsCommentsAndArraysAreNoKeys) {
  const std::string dots = repeated("x.", 5000);
  const std::vector<std::string> cases = {
      "# " + dots + "\na = 1\n",
      "a = 1 # [[[" + repeated("[", 100) + dots + "\n",
      "a = \"" + dots + repeated("[", 100) + "\"\n",
      "a = '" + dots + "'\n",
      "a = \"\"\"\n" + dots + repeated("{", 100) + "\"\"\"\n",
      "a = '''\n" + dots + "\"" + repeated("[", 100) + "'''\n",
      "a = [" + repeated("1.5, ", 5000) + "\n " + repeated("[2], ", 5000) + "]\n",
      "a = { b = '" + dots + "', c = [\"" + dots + "\"] }\n",
      "a = \"\\\\\" # \"" + repeated("[", 100) + "\n",
      repeated(" ", 2000) + "a = 1\n",
  };
  for (const std::string& toml : cases) EXPECT_NE(at(table_of(toml), "a"), "nothing") << toml.substr(0, 40);
}

}  // namespace
}  // namespace lab
