#include "lab/app/run_folder.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "lab/core/error.h"
#include "unit/temporary_folder.h"

namespace lab {
namespace {

namespace fs = std::filesystem;

class RunFolderTest : public testing::Test {
 protected:
  // What the call throws as an Error: "CODE message", or "" when it throws none.
  template <class Call>
  static std::string error_of(Call call) {
    try {
      call();
    } catch (const Error& error) {
      return text(static_cast<int>(error.code()), ' ', error.what());
    }
    return "";
  }

  const test::TemporaryFolder temporary_;
  const std::string folder_ = temporary_.path();
};

TEST(TaskName, IsMadeOfExperimentStemAndVersion) {
  EXPECT_EQ(task_name({"mnist", "mnist"}, "offline"), "mnist-mnist_offline");
  EXPECT_EQ(task_name({"mnist", "wide"}, "v3"), "mnist-wide_v3");
  EXPECT_EQ(task_name({"mnist", "mnist", true}, "v0"), "dev_mnist-mnist_v0");
  EXPECT_EQ(task_name({"mnist", "mnist.2"}, "pending"), "mnist-mnist.2_pending");
}

TEST(FolderName, StaysInItsPlace) {
  EXPECT_EQ(folder_name("mnist-mnist_v3"), "mnist-mnist_v3");
  EXPECT_EQ(folder_name("my run (2) \u00e9"), "my run (2) \u00e9");
  EXPECT_EQ(folder_name("../../x"), "_._.._x");
  EXPECT_EQ(folder_name(".."), "_.");
  EXPECT_EQ(folder_name("/a\nb"), "_a_b");
  EXPECT_EQ(folder_name(""), "_");
  EXPECT_EQ(folder_name(std::string(149, 'n') + "\u00e9"), std::string(149, 'n'));
}

TEST(TaskName, RefusesWhatWouldMakeItAmbiguous) {
  const struct {
    RunNames names;
    std::string value, hint;
  } cases[] = {
      {{"mn-ist", "a"}, "the experiment's name \"mn-ist\" has a '-'", "rename it where it is registered"},
      {{"mnist", "lr-3"}, "the config's file name \"lr-3\" has a '-'", "rename the file"},
      {{"a/b", "a"}, "\"a/b\" has a '/'", "rename it"},
      {{"", "a"}, "the experiment's name is empty", "registered"},
      {{"a", ""}, "the config's file name is empty", "rename the file"},
  };
  for (const auto& [names, value, hint] : cases) try {
      task_name(names, "v1");
      ADD_FAILURE() << "took " << names.experiment << " and " << names.stem;
    } catch (const ConfigError& error) {
      EXPECT_NE(std::string(error.what()).find(value), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find(hint), std::string::npos) << error.what();
    }
}

TEST(UtcText, IsIso8601) {
  EXPECT_EQ(utc_text(std::chrono::system_clock::from_time_t(1772366400)), "2026-03-01T12:00:00Z");
}

TEST_F(RunFolderTest, IsMadeWithItsParentsAndACheckpointsFolder) {
  const std::string root = folder_ + "/data/artifacts";
  const auto run = RunFolder::create(root, "mnist-mnist_offline");
  EXPECT_EQ(run.path(), root + "/mnist-mnist_offline");
  EXPECT_EQ(run.name(), "mnist-mnist_offline");
  EXPECT_EQ(run.file("log.txt"), root + "/mnist-mnist_offline/log.txt");
  EXPECT_TRUE(fs::is_directory(run.checkpoints()));
  EXPECT_EQ(fs::path(run.checkpoints()).filename(), "checkpoints");
}

TEST_F(RunFolderTest, IsNeverUsedTwice) {
  EXPECT_EQ(RunFolder::create(folder_, "a").name(), "a");
  EXPECT_EQ(RunFolder::create(folder_, "a").name(), "a.2");
  EXPECT_EQ(RunFolder::create(folder_, "a").name(), "a.3");
  std::ofstream(folder_ + "/a.4") << "a file is in the way";
  EXPECT_EQ(RunFolder::create(folder_, "a").name(), "a.5");
  EXPECT_EQ(RunFolder::create(folder_, "b").name(), "b");
}

TEST_F(RunFolderTest, RunsThatStartAtOnceGetFoldersOfTheirOwn) {
  std::vector<std::string> names(8);
  {
    std::vector<std::jthread> runs;
    for (auto& name : names)
      runs.emplace_back([&] { name = RunFolder::create(folder_ + "/new/root", "a").name(); });
  }
  EXPECT_EQ(std::set(names.begin(), names.end()),
            (std::set<std::string>{"a", "a.2", "a.3", "a.4", "a.5", "a.6", "a.7", "a.8"}));
}

TEST_F(RunFolderTest, ARootThatCannotBeUsedIsNamedTogetherWithItsKey) {
  std::ofstream(folder_ + "/file") << "no folder";
  for (const std::string& root : {folder_ + "/file", folder_ + "/file/below", std::string("/proc/none")}) {
    const std::string error = error_of([&] { RunFolder::create(root, "a"); });
    EXPECT_TRUE(error.starts_with("74 ")) << error;
    EXPECT_NE(error.find(root), std::string::npos) << error;
    EXPECT_NE(error.find("trainer.init.default_root_dir"), std::string::npos) << error;
  }
}

TEST_F(RunFolderTest, RunJsonHoldsTheRecordInItsOrder) {
  const auto run = RunFolder::create(folder_, "a");
  RunRecord record;
  record.name = "a";
  record.config_hash = "0123456789abcdef";
  record.argv = {"lab_train", "configs/mnist.toml", "-o"};
  record.host = "node1";
  record.pid = 4711;
  record.world_size = 2;
  record.slurm = {{"SLURM_JOB_ID", "17"}};
  record.versions = {{"lab", "0.1.0"}, {"torch", "2.11.0"}};
  record.instruction_set = "AVX2";
  record.started = "2026-03-01T12:00:00Z";
  run.write_run_json(record);
  std::ifstream in(run.file("run.json"));
  const std::string first(std::istreambuf_iterator<char>(in), {});
  EXPECT_EQ(first, R"({
  "status": "running",
  "launch_id": "",
  "name": "a",
  "task_id": "",
  "parent": "",
  "config_hash": "0123456789abcdef",
  "argv": [
    "lab_train",
    "configs/mnist.toml",
    "-o"
  ],
  "host": "node1",
  "pid": 4711,
  "world_size": 2,
  "slurm": {
    "SLURM_JOB_ID": "17"
  },
  "versions": {
    "lab": "0.1.0",
    "torch": "2.11.0"
  },
  "instruction_set": "AVX2",
  "exit_code": null,
  "error": "",
  "best": null,
  "started": "2026-03-01T12:00:00Z",
  "ended": "",
  "epochs": 0,
  "steps": 0,
  "starts": 1,
  "starts_from_step": 1,
  "started_from_step": 0
}
)");
  const RunRecord again = RunFolder::open(run.path()).read_run_json();
  EXPECT_EQ(again.name, record.name);
  EXPECT_EQ(again.slurm, record.slurm);
  EXPECT_EQ(again.started, record.started);
}

TEST_F(RunFolderTest, NamesOfOneConfigDifferInTheirVersionOnly) {
  const RunNames names{"mnist", "toy", false};
  for (const char* name : {"mnist-toy_offline", "mnist-toy_pending", "mnist-toy_v12"})
    EXPECT_TRUE(is_version_of(name, names)) << name;
  for (const char* name :
       {"mnist-toy_v", "mnist-toy_v1x", "mnist-toy2_v1", "dev_mnist-toy_v1", "mnist-toy", ""})
    EXPECT_FALSE(is_version_of(name, names)) << name;
}

TEST_F(RunFolderTest, RunJsonIsReplacedAsAWhole) {
  const auto run = RunFolder::create(folder_, "a");
  RunRecord record;
  record.error = std::string(5000, 'x');
  run.write_run_json(record);
  record.status = "completed";
  record.error = "";
  record.exit_code = 0;
  record.best = {"loss/validate", 0.1, 2, 128};
  run.write_run_json(record);
  std::ifstream in(run.file("run.json"));
  const auto json = nlohmann::json::parse(in);
  EXPECT_EQ(json["status"], "completed");
  EXPECT_EQ(json["exit_code"], 0);
  EXPECT_EQ(json["best"],
            (nlohmann::json{{"monitor", "loss/validate"}, {"value", 0.1}, {"epoch", 2}, {"step", 128}}));
  EXPECT_EQ(std::distance(fs::directory_iterator(run.path()), {}),
            2);  // run.json, checkpoints: nothing left behind
}

TEST_F(RunFolderTest, OddTextsAndNumbersAreNoReasonToFail) {
  const auto run = RunFolder::create(folder_, "a");
  RunRecord record;
  record.argv = {"caf\xe9", "größe", "a\nb"};
  record.best = {"loss", NAN, 0, 0};
  run.write_run_json(record);
  std::ifstream in(run.file("run.json"));
  const auto json = nlohmann::json::parse(in);
  EXPECT_EQ(json["argv"], (std::vector<std::string>{"caf\xef\xbf\xbd", "größe", "a\nb"}));
  EXPECT_TRUE(json["best"]["value"].is_null());
}

TEST_F(RunFolderTest, ARunJsonThatCannotBeWrittenIsAnIoError) {
  const auto run = RunFolder::create(folder_, "a");
  fs::remove_all(run.path());
  const std::string error = error_of([&] { run.write_run_json({}); });
  EXPECT_TRUE(error.starts_with("74 ")) << error;
  EXPECT_NE(error.find(run.file("run.json")), std::string::npos) << error;
  EXPECT_NE(error.find("trainer.init.default_root_dir"), std::string::npos) << error;
}

}  // namespace
}  // namespace lab
