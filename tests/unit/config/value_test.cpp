#include "lab/config/value.h"

#include <limits>

#include "config_case.h"

namespace lab {
namespace {

struct TomlCase {
  Value value;
  std::string type, toml;
};

TEST(Value, IsWrittenAsInAFile) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  const Table table{{{"b", {}, {int64_t{1}}}, {"a b", {}, {std::string("x")}}}};
  const std::vector<TomlCase> cases = {
      {{true}, "boolean", "true"},
      {{false}, "boolean", "false"},
      {{int64_t{-7}}, "integer", "-7"},
      {{std::numeric_limits<int64_t>::min()}, "integer", "-9223372036854775808"},
      {{0.1}, "float", "0.1"},
      {{3.0}, "float", "3.0"},
      {{-0.0}, "float", "-0.0"},
      {{1e-5}, "float", "1e-05"},
      {{1e300}, "float", "1e+300"},
      {{infinity}, "float", "inf"},
      {{-infinity}, "float", "-inf"},
      {{std::numeric_limits<double>::quiet_NaN()}, "float", "nan"},
      {{std::string("a \"b\"\n")}, "string", "\"a \\\"b\\\"\\n\""},
      {{Array{}}, "array", "[]"},
      {{Array{{int64_t{5}}, {int64_t{8}}}}, "array", "[5, 8]"},
      {{Table{}}, "table", "{}"},
      {{table}, "table", "{ b = 1, \"a b\" = \"x\" }"},
  };
  for (const auto& [value, type, toml] : cases) {
    EXPECT_EQ(value.type_name(), type);
    EXPECT_EQ(value.toml(), toml);
  }
}

TEST(Value, ReadsBackAsItself) {
  for (const double number :
       {0.1, 3.0, -0.0, 1e-5, 1.0 / 3.0, 5e-324, 1.7976931348623157e308, 123456789012345680.0}) {
    const Table table = table_of("a = " + Value{number}.toml());
    EXPECT_EQ(std::get<double>(find(table, "a")->data), number);
  }
  for (const std::string string : {"", "plain", "\"\\\t\r\n\x01\x7f", "caf\xc3\xa9"}) {
    const Table table = table_of("a = " + Value{string}.toml());
    EXPECT_EQ(std::get<std::string>(find(table, "a")->data), string);
  }
}

TEST(Value, IsCutShortInMessagesBetweenCharacters) {
  EXPECT_EQ(Value{std::string("many")}.shown(), "the string \"many\"");
  EXPECT_EQ(Value{std::string(78, 'x')}.brief(), "\"" + std::string(78, 'x') + "\"");
  EXPECT_EQ(Value{std::string(79, 'x')}.brief(), "\"" + std::string(75, 'x') + " ...");
  std::string accents;
  for (int i = 0; i < 60; ++i) accents += "\xc3\xa9";
  EXPECT_EQ(Value{accents}.brief(), "\"" + accents.substr(0, 74) + " ...");
}

TEST(Origin, IsFileLineAndColumnOrTheSourceAlone) {
  EXPECT_EQ((Origin{"configs/mnist.toml", 12, 1}.text()), "configs/mnist.toml:12:1");
  EXPECT_EQ((Origin{"--set config.batch_size"}.text()), "--set config.batch_size");
}

TEST(Find, FollowsDottedPaths) {
  const Table table = table_of("a = 1\n[b.c]\nd = 2\n");
  EXPECT_EQ(at(table, "a"), "1");
  EXPECT_EQ(at(table, "b.c.d"), "2");
  EXPECT_EQ(at(table, "b.c"), "{ d = 2 }");
  for (const char* absent : {"", "x", "b.x", "b.c.d.e", "a.x", "b.", ".b"})
    EXPECT_EQ(at(table, absent), "nothing");
}

TEST(Mistakes, AreReportedTogether) {
  Mistakes mistakes;
  EXPECT_FALSE(mistakes.any());
  EXPECT_NO_THROW(mistakes.throw_if_any());
  mistakes.add({"x.toml", 3, 1}, "wrong");
  EXPECT_TRUE(mistakes.any());
  EXPECT_EQ(error_of([&] { mistakes.throw_if_any(); }), "x.toml:3:1: wrong");
  mistakes.add({"--set a"}, "also wrong");
  mistakes.add({"x.toml", 3, 1}, "wrong");
  EXPECT_EQ(error_of([&] { mistakes.throw_if_any(); }),
            "2 mistakes in the configuration:\nx.toml:3:1: wrong\n--set a: also wrong");
}

}  // namespace
}  // namespace lab
