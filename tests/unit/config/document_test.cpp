// Files that extend files, and --set on top.

#include "lab/config/document.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "config_case.h"
#include "lab/core/text.h"

namespace lab {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

// A fresh folder that the test works in, so that paths are relative as they are on a command line.
class ConfigFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "lab-config-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    before_ = fs::current_path();
    fs::current_path(folder_);
  }
  void TearDown() override {
    fs::current_path(before_);
    fs::remove_all(folder_);
  }

  static void write(const std::string& path, const std::string& text) {
    if (const auto parent = fs::path(path).parent_path(); !parent.empty()) fs::create_directories(parent);
    std::ofstream(path, std::ios::binary) << text;
  }
  static Table merged(const std::string& path, const std::vector<std::string>& sets = {}) {
    return merge_config(read_config_files(path), sets);
  }
  static std::vector<std::string> paths_of(const ConfigFiles& files) {
    std::vector<std::string> out;
    for (const auto& file : files.files) out.push_back(file.first);
    return out;
  }

 private:
  fs::path folder_, before_;
};

TEST_F(ConfigFilesTest, TablesMergeAndEverythingElseReplaces) {
  write("base.toml", "a = 1\nlist = [1, 2, 3]\n[t]\nx = 1\ny = 2\n[t.deep]\np = 1\n");
  write("x.toml", "extends = \"base.toml\"\nlist = [9]\nb = 2\n[t]\ny = 3\nz = 4\n[t.deep]\nq = 2\n");
  const Table table = merged("x.toml");
  EXPECT_EQ(Value{table}.toml(),
            "{ a = 1, list = [9], t = { x = 1, y = 3, deep = { p = 1, q = 2 }, z = 4 }, b = 2 }");
  EXPECT_EQ(origin_at(table, "t.x"), "base.toml:4:5");
  EXPECT_EQ(origin_at(table, "t.y"), "x.toml:5:5");
}

TEST_F(ConfigFilesTest, ATableAndAValueReplaceEachOther) {
  write("base.toml", "a = 1\nb = { x = 1 }\n");
  write("x.toml", "extends = \"base.toml\"\na = { y = 2 }\nb = 2\n");
  EXPECT_EQ(Value{merged("x.toml")}.toml(), "{ a = { y = 2 }, b = 2 }");
}

TEST_F(ConfigFilesTest, OfAListTheLaterWins) {
  write("one.toml", "a = 1\nb = 1\nc = 1\n");
  write("two.toml", "b = 2\nc = 2\n");
  write("x.toml", "extends = [\"one.toml\", \"two.toml\"]\nc = 3\n");
  EXPECT_EQ(Value{merged("x.toml")}.toml(), "{ a = 1, b = 2, c = 3 }");
}

TEST_F(ConfigFilesTest, PathsAreRelativeToTheFileThatSaysThem) {
  write("configs/x.toml", "extends = \"sub/mid.toml\"\n");
  write("configs/sub/mid.toml", "extends = \"../../shared/./base.toml\"\nb = 1\n");
  write("shared/base.toml", "a = 1\n");
  EXPECT_THAT(paths_of(read_config_files("./configs/x.toml")),
              testing::ElementsAre("./configs/x.toml", "configs/sub/mid.toml", "shared/base.toml"));
  EXPECT_EQ(origin_at(merged("./configs/x.toml"), "a"), "shared/base.toml:1:5");
}

TEST_F(ConfigFilesTest, OfADiamondTheCommonBaseTakesPartOnce) {
  write("base.toml", "a = 0\nb = 0\n");
  write("left.toml", "extends = \"base.toml\"\na = 1\n");
  write("right.toml", "extends = \"base.toml\"\nb = 2\n");
  write("x.toml", "extends = [\"left.toml\", \"right.toml\"]\n");
  EXPECT_EQ(read_config_files("x.toml").files.size(), 4U);
  EXPECT_EQ(Value{merged("x.toml")}.toml(), "{ a = 1, b = 2 }");
}

TEST_F(ConfigFilesTest, CirclesArePrintedWhole) {
  write("a.toml", "extends = \"b.toml\"\n");
  write("b.toml", "x = 1\nextends = [\"a.toml\"]\n");
  write("start.toml", "extends = \"a.toml\"\n");
  write("self.toml", "extends = \"./self.toml\"\n");
  EXPECT_EQ(
      error_of([] { read_config_files("start.toml"); }),
      "b.toml:2:12: extends goes in a circle: a.toml -> b.toml -> a.toml; take one of these extends out");
  EXPECT_THAT(error_of([] { read_config_files("self.toml"); }), HasSubstr(": self.toml -> self.toml;"));
}

TEST_F(ConfigFilesTest, CirclesThroughLinksAreSeen) {
  write("a.toml", "extends = \"link/a.toml\"\n");
  fs::create_directory_symlink(".", "link");
  EXPECT_THAT(error_of([] { read_config_files("a.toml"); }), HasSubstr("extends goes in a circle"));
}

TEST_F(ConfigFilesTest, AMissingFileNamesWhoExtendsIt) {
  write("configs/x.toml", "a = 1\nextends = \"bas.toml\"\n");
  EXPECT_EQ(error_of<InputNotFound>([] { read_config_files("configs/x.toml"); }),
            "configs/x.toml:2:11: extends \"configs/bas.toml\", which is not there; correct the name (it is "
            "relative "
            "to \"configs/x.toml\")");
  EXPECT_THAT(error_of<InputNotFound>([] { read_config_files("absent.toml"); }),
              HasSubstr("\"absent.toml\""));
  EXPECT_THAT(error_of<InputNotFound>([] { read_config_files("configs"); }), HasSubstr("\"configs\""));
}

TEST_F(ConfigFilesTest, ExtendsOfAnotherTypeIsRefused) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"extends = 3\n", "x.toml:1:11: extends wants a file name or a list of file names, got the integer 3"},
      {"extends = [\"a.toml\", true]\n",
       "x.toml:1:22: extends wants a file name or a list of file names, got the boolean true"},
      {"extends = \"\"\n",
       "x.toml:1:11: extends wants a file name or a list of file names, got the string \"\""}};
  write("a.toml", "");
  for (const auto& [toml, message] : cases) {
    write("x.toml", toml);
    EXPECT_EQ(error_of([] { read_config_files("x.toml"); }), message);
  }
}

TEST_F(ConfigFilesTest, MoreThanAMebibyteIsRefusedUnparsed) {
  write("x.toml", std::string((1 << 20) + 1, '!'));
  EXPECT_THAT(error_of([] { read_config_files("x.toml"); }), HasSubstr("is larger than 1.0 MiB"));
  write("x.toml", "a = 1\n#" + std::string((1 << 20) - 7, 'x'));
  EXPECT_EQ(at(merged("x.toml"), "a"), "1");
}

TEST(ConfigFiles, TravelAsBytes) {
  const ConfigFiles files{{{"a.toml", "x = 1\n"}, {"1:b.toml", std::string("3:\0\n", 4)}, {"", ""}}};
  EXPECT_EQ(ConfigFiles::from_bytes(files.to_bytes()).files, files.files);
  EXPECT_TRUE(ConfigFiles::from_bytes("").files.empty());
  for (const std::string damaged : {"x", "5:a", "1:a", "1:a9:b", "99999999999999999999:a", "1:a0:2"})
    error_of<Bug>([&] { ConfigFiles::from_bytes(damaged); });
}

struct SetCase {
  std::string set, path, type, toml;
};

TEST(Set, TakesTomlValuesOrPlainText) {
  const std::vector<SetCase> cases = {
      {"a=1", "a", "integer", "1"},
      {"a=1.0", "a", "float", "1.0"},
      {"a=true", "a", "boolean", "true"},
      {"a=\"q\"", "a", "string", "\"q\""},
      {"c.steps=[5,8]", "c.steps", "array", "[5, 8]"},
      {"c.new.deep=1", "c.new.deep", "integer", "1"},
      {"c={ y = 2 }", "c.y", "integer", "2"},
      {"c.\"d.e\" = cnn", "c", "table", "{ x = 1, \"d.e\" = \" cnn\" }"},
      {"'k=v'=1=2", "k=v", "string", "\"1=2\""},
      {"a=cnn", "a", "string", "\"cnn\""},
      {"a=", "a", "string", "\"\""},
      {"a=/data/x.h5", "a", "string", "\"/data/x.h5\""},
      {"a=2024-01-31", "a", "string", "\"2024-01-31\""},
      {"a=[1,2", "a", "string", "\"[1,2\""},
      {"a=1\nb=2", "a", "string", "\"1\\nb=2\""},
      {"a=x = 'y'", "a", "string", "\"x = 'y'\""},
  };
  for (const auto& [set, path, type, toml] : cases) {
    const Table table = table_of("[c]\nx = 1\n", {set});
    const Value* value = find(table, path);
    ASSERT_NE(value, nullptr) << set;
    EXPECT_EQ(value->type_name(), type) << set;
    EXPECT_EQ(value->toml(), toml) << set;
  }
}

TEST(Set, KeepsWhereItCameFromAndWhatWasTyped) {
  const Table table = table_of("[config]\nmodel = \"cnn\"\n", {"config.model=123", "config.steps=[1]"});
  EXPECT_EQ(origin_at(table, "config.model"), "--set config.model");
  EXPECT_EQ(find(table, "config.model")->plain, "123");
  EXPECT_EQ(std::get<Array>(find(table, "config.steps")->data)[0].origin.text(), "--set config.steps");
}

TEST(Set, TheLastWinsAndTablesMerge) {
  EXPECT_EQ(Value{table_of("[c]\nx = 1\n", {"c.x=2", "c={ y = 5 }", "c.x=3"})}.toml(),
            "{ c = { x = 3, y = 5 } }");
}

TEST(Set, WhatIsNoKeyAndValueIsRefused) {
  EXPECT_EQ(error_of([] { table_of("", {"config.x"}); }),
            "--set config.x: there is no '='; write --set KEY=VALUE, as in --set config.batch_size=64");
  for (const std::string key : {"", ".a", "a.", "a..b", "a b", "[a]", "\"a", "[a]\nb", "a\n", "#"})
    EXPECT_THAT(error_of([&] { table_of("", {key + "=1"}); }),
                HasSubstr(key == "\"a" ? "no '='" : "is no key"))
        << key;
  EXPECT_THAT(error_of([] { table_of("", {"a" + std::string(200000, '.') + "=1"}); }),
              HasSubstr("is no key"));
  EXPECT_THAT(error_of([] { table_of("", {"extends=b.toml"}); }), HasSubstr("extends works in files only"));
  EXPECT_THAT(error_of([] { table_of("", {"a=\xff"}); }), HasSubstr("--set a: the value is not UTF-8"));
}

TEST(Set, AKeyThroughAValueIsRefused) {
  EXPECT_EQ(error_of([] { table_of("[config]\nmodel = \"cnn\"\n", {"config.model.x=1"}); }),
            "--set config.model.x: config.model is not a table but the string \"cnn\" of x.toml:2:9; set "
            "config.model "
            "itself");
}

}  // namespace
}  // namespace lab
