// The resolved values as TOML, and the help.

#include <gmock/gmock.h>

#include <sstream>

#include "config_case.h"
#include "lab/config/fields.h"

namespace lab {
namespace {

struct Experiment {
  std::string experiment = "mnist";
  static void describe(Fields<Experiment>& f) { f("experiment", &Experiment::experiment, "which one"); }
};

struct Settings {
  double learning_rate = 1.5e-3;
  double tiny = 1e-5;
  double whole = 3;
  int64_t batch_size = 128;
  std::string model = "cnn";
  std::vector<int64_t> milestones = {5, 8};
  std::vector<std::string> tags;
  bool weights_only = false;
  static void describe(Fields<Settings>& f) {
    f("learning_rate", &Settings::learning_rate, above(0), "step size of AdamW");
    f("tiny", &Settings::tiny, "");
    f("whole", &Settings::whole, "");
    f("batch_size", &Settings::batch_size, at_least(1), at_most(65536),
      "the global batch: how many samples one step sees over all ranks together, whatever their number is");
    f("model", &Settings::model, one_of({"cnn", "toy"}), "which network");
    f("milestones", &Settings::milestones, "epochs after which the learning rate falls");
    f("tags", &Settings::tags, "");
    f("weights_only", &Settings::weights_only, "");
  }
};

Resolved resolved_of(const Table& table) {
  Resolved resolved;
  Mistakes mistakes;
  read_fields<Settings>(table, "config", resolved, mistakes);
  read_fields<Settings>(table, "trainer.init", resolved, mistakes);
  read_fields<Experiment>(table_of(""), "", resolved, mistakes);
  EXPECT_EQ(mistakes.lines(), std::vector<std::string>{});
  return resolved;
}

TEST(ToToml, WritesTopLevelKeysThenSections) {
  const Table table = table_of("[config]\nmodel = \"toy\"\n");
  const std::string section =
      "learning_rate = 0.0015\ntiny = 1e-05\nwhole = 3.0\nbatch_size = 128\nmodel = \"MODEL\"\n"
      "milestones = [5, 8]\ntags = []\nweights_only = false\n";
  std::string config = section, init = section;
  config.replace(config.find("MODEL"), 5, "toy");
  init.replace(init.find("MODEL"), 5, "cnn");
  EXPECT_EQ(to_toml(resolved_of(table), false),
            "experiment = \"mnist\"\n\n[config]\n" + config + "\n[trainer.init]\n" + init);
}

TEST(ToToml, ReadsBackAsTheSameValues) {
  const Table table = table_of(
      "[config]\nlearning_rate = 0.1\ntiny = -0.0\nwhole = 1e300\nmodel = \"toy\"\ntags = [\"a#b\", "
      "\"c\\n\\\"d\\\"\", "
      "\"\\u0001 \xc3\xa9\"]\n[trainer.init]\nwhole = inf\nmilestones = []\n");
  const Resolved first = resolved_of(table);
  for (const bool with_origins : {false, true}) {
    const Resolved again = resolved_of(table_of(to_toml(first, with_origins)));
    ASSERT_EQ(again.size(), first.size());
    for (size_t i = 0; i < first.size(); ++i) {
      EXPECT_EQ(again[i].path, first[i].path);
      EXPECT_EQ(again[i].value.type_name(), first[i].value.type_name());
      EXPECT_EQ(again[i].value.toml(), first[i].value.toml());
    }
  }
}

TEST(ToToml, SaysWhereEachValueCameFrom) {
  const Resolved resolved = {
      {"experiment", {std::string("mnist"), {"configs/mnist.toml", 1, 14}, {}}},
      {"config.learning_rate", {0.5, {"configs/mnist.toml", 12, 17}, {}}},
      {"config.batch_size", {int64_t{64}, {"--set config.batch_size"}, {}}},
      {"config.note", {std::string(60, 'x'), {"default"}, {}}},
      {"config.odd key", {true, {"a\nb = 1"}, {}}},
  };
  EXPECT_EQ(to_toml(resolved, true),
            "experiment = \"mnist\"  # configs/mnist.toml:1\n"
            "\n"
            "[config]\n"
            "learning_rate = 0.5  # configs/mnist.toml:12\n"
            "batch_size = 64      # --set config.batch_size\n"
            "note = \"" +
                std::string(60, 'x') +
                "\"  # default\n"
                "\"odd key\" = true     # a?b = 1\n");
}

TEST(HelpText, TellsTypeDefaultConditionAndPurpose) {
  const std::string help = help_text("config", fields_of<Settings>());
  EXPECT_THAT(help, testing::StartsWith("[config]\n"
                                        "  learning_rate   float = 0.0015, above 0\n"
                                        "      step size of AdamW\n"
                                        "  tiny            float = 1e-05\n"
                                        "  whole           float = 3.0\n"));
  EXPECT_THAT(help,
              testing::HasSubstr("  batch_size      integer = 128, at least 1, at most 65536\n"
                                 "      the global batch: how many samples one step sees over all ranks "
                                 "together, whatever their\n"
                                 "      number is\n"));
  EXPECT_THAT(help, testing::HasSubstr("  model           string = \"cnn\", one of \"cnn\", \"toy\"\n"));
  EXPECT_THAT(help, testing::HasSubstr("  milestones      array of integers = [5, 8]\n"));
  EXPECT_THAT(help, testing::EndsWith("  weights_only    boolean = false\n"));
  EXPECT_THAT(help_text("", fields_of<Experiment>()),
              testing::StartsWith("  experiment   string = \"mnist\"\n"));
}

TEST(HelpText, IsNoWiderThanAHundredColumns) {
  std::vector<std::string> names;
  for (int i = 0; i < 40; ++i) names.push_back("name" + std::to_string(i));
  const FieldDescription field{.name = "a_field",
                               .type = "string",
                               .help = "word " + std::string(120, 'x') + " and then some more words",
                               .constraints = {one_of(names)},
                               .default_value = {std::string("name0")}};
  std::istringstream lines(help_text("config", {field}));
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const bool one_long_word = line.find("xxx") != std::string::npos;
    EXPECT_TRUE(one_long_word || line.size() <= 100) << line;
  }
  EXPECT_GT(count, 6);
}

}  // namespace
}  // namespace lab
