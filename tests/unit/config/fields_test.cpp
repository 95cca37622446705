// Tables read into structs, and every mistake on the way.

#include "lab/config/fields.h"

#include <limits>

#include "config_case.h"

namespace lab {
namespace {

struct Sample {
  bool shuffle = true;
  int64_t batch_size = 128;
  double learning_rate = 1.5e-3;
  std::string model = "cnn";
  std::vector<int64_t> milestones = {5, 8};
  std::vector<double> weights;
  std::vector<std::string> tags;
  std::vector<bool> flags;
  IntegerOrFloat limit = 1.0;

  static void describe(Fields<Sample>& f) {
    f("shuffle", &Sample::shuffle, "new order each epoch");
    f("batch_size", &Sample::batch_size, at_least(1), at_most(4096), "samples per step, over all ranks");
    f("learning_rate", &Sample::learning_rate, above(0), "step size of AdamW");
    f("model", &Sample::model, one_of({"cnn", "toy"}), "which network");
    f("milestones", &Sample::milestones, above(0), "epochs at which the rate falls");
    f("weights", &Sample::weights, below(1), "of the classes");
    f("tags", &Sample::tags, "for the server");
    f("flags", &Sample::flags, "some switches");
    f("limit", &Sample::limit, above(0), "batches, or their share");
  }
};

Sample sample_of(const std::string& toml, const std::vector<std::string>& sets = {}) {
  Resolved resolved;
  Mistakes mistakes;
  const auto sample = read_fields<Sample>(table_of(toml, sets), "config", resolved, mistakes);
  mistakes.throw_if_any();
  return sample;
}

std::vector<std::string> mistakes_of(const std::string& toml, const std::vector<std::string>& sets = {}) {
  Resolved resolved;
  Mistakes mistakes;
  read_fields<Sample>(table_of(toml, sets), "config", resolved, mistakes);
  return mistakes.lines();
}

using Lines = std::vector<std::string>;

TEST(ReadFields, TakesValuesOfEveryType) {
  const Sample sample = sample_of(
      "[config]\nshuffle = false\nbatch_size = 64\nlearning_rate = 0.5\nmodel = \"toy\"\nmilestones = [1, 2, "
      "3]\n"
      "weights = [0.5, 0]\ntags = [\"a\", \"b\"]\nflags = [true, false]\nlimit = 3\n");
  EXPECT_FALSE(sample.shuffle);
  EXPECT_EQ(sample.batch_size, 64);
  EXPECT_EQ(sample.learning_rate, 0.5);
  EXPECT_EQ(sample.model, "toy");
  EXPECT_EQ(sample.milestones, (std::vector<int64_t>{1, 2, 3}));
  EXPECT_EQ(sample.weights, (std::vector<double>{0.5, 0.0}));
  EXPECT_EQ(sample.tags, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(sample.flags, (std::vector<bool>{true, false}));
  EXPECT_EQ(sample.limit, IntegerOrFloat(int64_t{3}));
}

TEST(ReadFields, AnIntegerIsTakenForAFloat) {
  EXPECT_EQ(sample_of("[config]\nlearning_rate = 1\n").learning_rate, 1.0);
  EXPECT_EQ(sample_of("[config]\nlimit = 0.25\n").limit, IntegerOrFloat(0.25));
}

TEST(ReadFields, WhatIsAbsentIsTheDefault) {
  for (const char* toml : {"", "[config]\n"}) {
    const Sample sample = sample_of(toml);
    EXPECT_TRUE(sample.shuffle);
    EXPECT_EQ(sample.batch_size, 128);
    EXPECT_EQ(sample.model, "cnn");
    EXPECT_EQ(sample.milestones, (std::vector<int64_t>{5, 8}));
    EXPECT_TRUE(sample.weights.empty());
    EXPECT_EQ(sample.limit, IntegerOrFloat(1.0));
  }
}

struct Named {
  std::string name = "x";
  std::vector<std::string> list;
  static void describe(Fields<Named>& f) {
    f("name", &Named::name, "any text");
    f("list", &Named::list, "any texts");
  }
};

TEST(ReadFields, AStringTakesWhatWasTypedAfterSet) {
  Resolved resolved;
  Mistakes mistakes;
  const auto name_of = [&](const std::string& set) {
    return read_fields<Named>(table_of("[c]\nname = \"y\"\n", {set}), "c", resolved, mistakes).name;
  };
  EXPECT_EQ(name_of("c.name=123"), "123");
  EXPECT_EQ(name_of("c.name=1e3"), "1e3");
  EXPECT_EQ(name_of("c.name=true"), "true");
  EXPECT_EQ(name_of("c.name=[1, 2]"), "[1, 2]");
  EXPECT_EQ(name_of("c.name=2024-01-31"), "2024-01-31");
  EXPECT_EQ(name_of("c.name=\"q\""), "q");
  EXPECT_EQ(name_of("c.name="), "");
  EXPECT_FALSE(mistakes.any());
  EXPECT_EQ(name_of("c.list=[1]"), "y");
  EXPECT_EQ(mistakes.lines(), Lines{"--set c.list: c.list[0] wants a string, got the integer 1"});
}

TEST(ReadFields, ResolvedHoldsEveryFieldInTheOrderOfDescription) {
  Resolved resolved;
  Mistakes mistakes;
  const Table table = table_of("[config]\nmodel = \"toy\"\nlearning_rate = 1\n", {"config.batch_size=64"});
  read_fields<Sample>(table, "config", resolved, mistakes);
  ASSERT_EQ(resolved.size(), 9U);
  EXPECT_EQ(resolved[0].path, "config.shuffle");
  EXPECT_EQ(resolved[0].value.origin.text(), "default");
  EXPECT_EQ(resolved[1].path, "config.batch_size");
  EXPECT_EQ(resolved[1].value.origin.text(), "--set config.batch_size");
  EXPECT_EQ(resolved[2].value.toml(), "1.0");
  EXPECT_EQ(resolved[2].value.origin.text(), "x.toml:3:17");
  EXPECT_EQ(resolved[3].value.toml(), "\"toy\"");
  EXPECT_EQ(resolved[4].value.toml(), "[5, 8]");
}

struct MistakeCase {
  std::string toml, mistake;
};

TEST(ReadFields, MistakesNamePlaceValueAndWayOn) {
  const std::vector<MistakeCase> cases = {
      {"learning_rat = 1",
       "x.toml:2:1: unknown key \"learning_rat\" in [config]; did you mean \"learning_rate\"?"},
      {"zzzzzzzz = 1",
       "x.toml:2:1: unknown key \"zzzzzzzz\" in [config]; known keys: shuffle, batch_size, learning_rate, "
       "model, "
       "milestones, weights, tags, flags, limit"},
      {"batch_size = \"many\"", "x.toml:2:14: config.batch_size wants an integer, got the string \"many\""},
      {"batch_size = 64.0", "x.toml:2:14: config.batch_size wants an integer, got the float 64.0"},
      {"batch_size = true", "x.toml:2:14: config.batch_size wants an integer, got the boolean true"},
      {"shuffle = 1", "x.toml:2:11: config.shuffle wants a boolean, got the integer 1"},
      {"learning_rate = \"1\"", "x.toml:2:17: config.learning_rate wants a float, got the string \"1\""},
      {"model = 3", "x.toml:2:9: config.model wants a string, got the integer 3"},
      {"model = { a = 1 }", "x.toml:2:9: config.model wants a string, got the table { a = 1 }"},
      {"milestones = 5", "x.toml:2:14: config.milestones wants an array of integers, got the integer 5"},
      {"milestones = [1, 2.5]", "x.toml:2:18: config.milestones[1] wants an integer, got the float 2.5"},
      {"tags = [[\"a\"]]", "x.toml:2:9: config.tags[0] wants a string, got the array [\"a\"]"},
      {"limit = true", "x.toml:2:9: config.limit wants an integer or float, got the boolean true"},
      {"learning_rate = -1", "x.toml:2:17: config.learning_rate = -1 is not above 0"},
      {"learning_rate = nan", "x.toml:2:17: config.learning_rate = nan is not above 0"},
      {"learning_rate = inf", "x.toml:2:17: config.learning_rate = inf is not above 0"},
      {"batch_size = 0", "x.toml:2:14: config.batch_size = 0 is not at least 1"},
      {"batch_size = 5000", "x.toml:2:14: config.batch_size = 5000 is not at most 4096"},
      {"milestones = [3, -8]", "x.toml:2:18: config.milestones[1] = -8 is not above 0"},
      {"weights = [-inf]", "x.toml:2:12: config.weights[0] = -inf is not below 1"},
      {"limit = 0.0", "x.toml:2:9: config.limit = 0.0 is not above 0"},
      {"model = \"cmn\"",
       "x.toml:2:9: config.model = \"cmn\" is not one of \"cnn\", \"toy\"; did you mean \"cnn\"?"},
      {"model = \"transformer\"",
       "x.toml:2:9: config.model = \"transformer\" is not one of \"cnn\", \"toy\""},
  };
  for (const auto& [toml, mistake] : cases)
    EXPECT_EQ(mistakes_of("[config]\n" + toml + "\n"), Lines{mistake});
}

TEST(ReadFields, MistakesOfSetNameTheOption) {
  EXPECT_EQ(mistakes_of("", {"config.batch_size=many", "config.modle=toy", "config.model=12"}),
            (Lines{"--set config.modle: unknown key \"modle\" in [config]; did you mean \"model\"?",
                   "--set config.batch_size: config.batch_size wants an integer, got the string \"many\"",
                   "--set config.model: config.model = \"12\" is not one of \"cnn\", \"toy\""}));
}

TEST(ReadFields, AllMistakesAreFoundInOneRun) {
  EXPECT_EQ(
      error_of([] { sample_of("[config]\nmodl = 1\nbatch_size = 0\nmilestones = [\"a\", -1, true]\n"); }),
      "5 mistakes in the configuration:\n"
      "x.toml:2:1: unknown key \"modl\" in [config]; did you mean \"model\"?\n"
      "x.toml:3:14: config.batch_size = 0 is not at least 1\n"
      "x.toml:4:15: config.milestones[0] wants an integer, got the string \"a\"\n"
      "x.toml:4:20: config.milestones[1] = -1 is not above 0\n"
      "x.toml:4:24: config.milestones[2] wants an integer, got the boolean true");
}

TEST(ReadFields, AfterAMistakeTheDefaultIsUsed) {
  Resolved resolved;
  Mistakes mistakes;
  const Table table = table_of("[config]\nbatch_size = \"many\"\nmilestones = [\"a\", 1]\n");
  const auto sample = read_fields<Sample>(table, "config", resolved, mistakes);
  EXPECT_EQ(sample.batch_size, 128);
  EXPECT_EQ(sample.milestones, (std::vector<int64_t>{5, 8}));
  EXPECT_EQ(mistakes.lines().size(), 2U);
}

TEST(ReadFields, APathThatIsNoTableIsAMistake) {
  EXPECT_EQ(mistakes_of("config = 3\n"),
            Lines{"x.toml:1:10: config wants a table, got the integer 3; write its values under [config]"});
  Resolved resolved;
  Mistakes mistakes;
  const Table table = table_of("trainer = [1]\n");
  read_fields<Named>(table, "trainer.init", resolved, mistakes);
  read_fields<Named>(table, "trainer.fit", resolved, mistakes);
  EXPECT_EQ(mistakes.lines(),
            Lines{"x.toml:1:11: trainer wants a table, got the array [1]; write its values under [trainer]"});
  EXPECT_EQ(resolved.size(), 4U);
}

struct Required {
  std::string data;
  std::vector<int64_t> sizes;
  static void describe(Fields<Required>& f) {
    f("data", &Required::data, not_empty(), "an HDF5 file");
    f("sizes", &Required::sizes, not_empty(), between(1, 10), "of the layers");
  }
};

TEST(ReadFields, WhatHasToBeSetIsMissedInTheDefault) {
  Resolved resolved;
  Mistakes mistakes;
  read_fields<Required>(table_of("[c]\nsizes = []\n"), "c", resolved, mistakes);
  EXPECT_EQ(mistakes.lines(),
            (Lines{"default: c.data = \"\" is empty; set c.data in the config or with --set",
                   "x.toml:2:9: c.sizes = [] is empty"}));
  Mistakes none;
  EXPECT_EQ(read_fields<Required>(table_of("[c]\ndata = \"d\"\nsizes = [1]\n"), "c", resolved, none).data,
            "d");
  EXPECT_FALSE(none.any());
}

TEST(ReadFields, TheTopLevelIsTheEmptyPath) {
  Resolved resolved;
  Mistakes mistakes;
  EXPECT_EQ(read_fields<Named>(table_of("name = \"n\"\n"), "", resolved, mistakes).name, "n");
  EXPECT_EQ(resolved[0].path, "name");
}

struct Twice {
  int64_t a = 0;
  static void describe(Fields<Twice>& f) { f("a", &Twice::a, "one")("a", &Twice::a, "two"); }
};

TEST(ReadFields, ANameDescribedTwiceIsABug) {
  Resolved resolved;
  Mistakes mistakes;
  EXPECT_EQ(error_of<Bug>([&] { read_fields<Twice>({}, "c", resolved, mistakes); }),
            "the field \"a\" of [c] is described twice; take one out");
}

TEST(RefuseUnknown, ReportsWhatIsNotKnown) {
  Mistakes mistakes;
  const Table table = table_of("experimnt = 1\n[trainer]\nint = 1\n[trainer.fit]\nx = 1\n");
  refuse_unknown(table, "", {"experiment", "trainer"}, mistakes);
  refuse_unknown(table, "trainer", {"init", "fit"}, mistakes);
  refuse_unknown(table, "trainer.fit", {}, mistakes);
  refuse_unknown(table, "absent", {"a"}, mistakes);
  EXPECT_EQ(mistakes.lines(),
            (Lines{"x.toml:1:1: unknown key \"experimnt\" at the top level; did you mean \"experiment\"?",
                   "x.toml:3:1: unknown key \"int\" in [trainer]; did you mean \"init\"?",
                   "x.toml:5:1: unknown key \"x\" in [trainer.fit]; there are no keys here"}));
}

struct ConstraintCase {
  Constraint constraint;
  std::string text;
  std::vector<Value> allowed, refused;
};

TEST(Constraints, HoldAtTheirBounds) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  const Value nan{std::numeric_limits<double>::quiet_NaN()};
  const std::vector<ConstraintCase> cases = {
      {above(0), "above 0", {{0.1}, {int64_t{1}}}, {{0.0}, {int64_t{0}}, {-0.1}, {infinity}, nan}},
      {at_least(0.5), "at least 0.5", {{0.5}, {int64_t{1}}}, {{0.4}, {infinity}, nan}},
      {below(1), "below 1", {{0.9}, {int64_t{-3}}}, {{1.0}, {int64_t{1}}, {-infinity}, nan}},
      {at_most(1), "at most 1", {{1.0}, {int64_t{1}}}, {{1.1}, {-infinity}, nan}},
      {between(0, 1), "between 0 and 1", {{0.0}, {1.0}, {int64_t{1}}}, {{-0.1}, {1.1}, {infinity}, nan}},
      {one_of({"a", "b"}),
       "one of \"a\", \"b\"",
       {{std::string("b")}},
       {{std::string("c")}, {std::string()}}},
      {not_empty(), "not empty", {{std::string("x")}, {Array{{true}}}}, {{std::string()}, {Array{}}}},
  };
  for (const auto& [constraint, text, allowed, refused] : cases) {
    EXPECT_EQ(constraint.text, text);
    for (const Value& value : allowed) EXPECT_TRUE(constraint.check(value)) << text << ": " << value.toml();
    for (const Value& value : refused) EXPECT_FALSE(constraint.check(value)) << text << ": " << value.toml();
  }
}

}  // namespace
}  // namespace lab

// A struct of somebody else, described beside it.
namespace elsewhere {

struct Plain {
  int64_t depth = 3;
};

void describe(lab::Fields<Plain>& f) { f("depth", &Plain::depth, lab::at_least(1), "number of layers"); }

TEST(ReadFields, ADescriptionMayStandOutsideOfItsStruct) {
  lab::Resolved resolved;
  lab::Mistakes mistakes;
  const lab::Table table = lab::table_of("[net]\ndepth = 0\n", {"net.depth=5"});
  EXPECT_EQ(lab::read_fields<Plain>(table, "net", resolved, mistakes).depth, 5);
  ASSERT_EQ(lab::fields_of<Plain>().size(), 1U);
  EXPECT_EQ(lab::fields_of<Plain>()[0].name, "depth");
  EXPECT_EQ(lab::fields_of<Plain>()[0].type, "integer");
  EXPECT_EQ(lab::fields_of<Plain>()[0].default_value.toml(), "3");
}

}  // namespace elsewhere
