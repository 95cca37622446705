#include "lab/track/clearml_task.h"

#include <gtest/gtest.h>

#include <fstream>

#include "lab/core/error.h"
#include "lab/track/clearml_sender.h"
#include "lab/track/spool.h"
#include "track/model_upload.h"
#include "track/sender_state.h"
#include "unit/temporary_folder.h"

namespace lab {
namespace {

struct Names {
  std::string stem;
  std::vector<std::string> names;
  int64_t next;
};

TEST(NextVersion, OnlyExactlyThisNameCounts) {
  const std::vector<Names> tables = {
      {"mnist-mnist", {}, 0},
      {"mnist-mnist", {"mnist-mnist_v0"}, 1},
      {"mnist-mnist", {"mnist-mnist_v0", "mnist-mnist_v9", "mnist-mnist_v3"}, 10},
      {"mnist-mnist", {"mnist-mnist_v9", "mnist-mnist_v10"}, 11},  // numbers, not texts
      {"mnist-mnist", {"mnist-mnist_modified_v7"}, 0},             // a sibling's prefix
      {"mnist-lr3", {"mnist-lr3_v0", "mnist-lr3_v1"}, 2},          // digits in the name
      {"mnist-lr3", {"mnist-lr_v8", "mnist-lr33_v8"}, 0},          // of others
      {"mnist-a", {"dev_mnist-a_v4", "xmnist-a_v5"}, 0},           // unanchored
      {"dev_mnist-a", {"dev_mnist-a_v4", "mnist-a_v6"}, 5},
      {"mnist-a", {"mnist-a_offline", "mnist-a_pending", "mnist-a_v", "mnist-a"}, 0},
      {"mnist-a", {"mnist-a_v2 (copy)", "mnist-a_v-3", "mnist-a_v1.5", "mnist-a_v+4", "mnist-a_vx"}, 0},
      {"mnist-a", {"mnist-a_v007", "mnist-a_v99999999999999999999"}, 8},  // beyond all numbers
      {"a.b-c+d", {"a.b-c+d_v1", "axb-c+d_v5", "a.b-ccd_v6"}, 2},         // no pattern
  };
  for (const auto& [stem, names, next] : tables) EXPECT_EQ(next_version(stem, names), next) << stem;
}

TEST(Names, AreThoseThatAServerTakes) {
  for (const char* name : {"abc", "a b", "a/b", "\u00e4\u00f6\u00fc", "  abc/"})
    EXPECT_TRUE(is_project_name(name)) << name;
  for (const char* name : {"", "   ", "///", "/ab ", "\u00f6\u00fc"})
    EXPECT_FALSE(is_project_name(name)) << name;
  EXPECT_TRUE(is_task_id("0123456789abcdef0123456789abcdef"));
  for (const char* id : {"", "a b", "../x", "\xff\xfe"}) EXPECT_FALSE(is_task_id(id)) << id;
}

TEST(ResultsPage, IsWhereTheWebServerShowsIt) {
  ClearmlSettings settings;
  EXPECT_EQ(results_page(settings, {"t", "n", "p", "P"}), "");
  settings.web_host = "http://web";
  EXPECT_EQ(results_page(settings, {"t", "n", "p", "P"}), "http://web/projects/p/tasks/t/output/log");
}

TEST(TitleAndSeries, SplitAtTheLastSlash) {
  using Pair = std::pair<std::string, std::string>;
  EXPECT_EQ(title_and_series("loss/validate"), Pair("loss", "validate"));
  EXPECT_EQ(title_and_series("a/b/c"), Pair("a_b", "c"));
  EXPECT_EQ(title_and_series("epoch"), Pair("epoch", "epoch"));
  EXPECT_EQ(title_and_series("f1 (train)/x"), Pair("f1 (train)", "x"));
}

ClearmlSettings with_files(const std::string& host) {
  ClearmlSettings settings;
  settings.files_host = host;
  return settings;
}

TEST(ModelStore, IsWhatTheConfigAndTheSettingsSay) {
  using Kind = ModelStore::Kind;
  const ClearmlSettings files = with_files("http://files:8081");
  for (const char* uri : {"", "true", "http://files:8081", "http://files:8081/below"})
    EXPECT_EQ(model_store(uri, files).kind, Kind::file_server) << uri;
  EXPECT_EQ(model_store("", ClearmlSettings{}).kind, Kind::in_place);
  EXPECT_EQ(model_store("false", files).kind, Kind::in_place);
  EXPECT_EQ(model_store("/models", files).folder, "/models");
  EXPECT_EQ(model_store("file:///models", files).folder, "/models");
  for (const char* uri :
       {"s3://b/x", "gs://b", "azure://b", "http://other/x", "http://files:8081.evil/x", "ftp://x"})
    EXPECT_THROW(model_store(uri, files), ConfigError) << uri;
  ClearmlSettings by_default = files;
  by_default.default_output_uri = "/shared";
  EXPECT_EQ(model_store("", by_default).folder, "/shared");
  EXPECT_EQ(model_store("false", by_default).kind, Kind::in_place);
  by_default.default_output_uri = "s3://bucket";
  EXPECT_THROW(model_store("", by_default), ConfigError);
}

TEST(ModelPlace, NamesAreQuotedOnceForTheDiskAndTwiceInTheUri) {
  const auto place = detail::model_place({}, with_files("http://f"), {"id", "50% #1", "p", "A/B c"}, "best",
                                         "/run/checkpoints/best.safetensors");
  EXPECT_EQ(place.storage_path, "/A/B c/50%25 %231.id/models/best.safetensors");
  EXPECT_EQ(place.uri, "http://f/A/B%20c/50%2525%20%25231.id/models/best.safetensors");
  const auto kept = detail::model_place({ModelStore::Kind::in_place, ""}, {}, {"id", "n", "p", "P"}, "best",
                                        "/run dir/best.safetensors");
  EXPECT_EQ(kept.uri, "file:///run%20dir/best.safetensors");
  EXPECT_EQ(kept.storage_path + kept.path, "");
  const auto copied = detail::model_place({ModelStore::Kind::folder, "/models"}, {}, {"id", "n", "p", "P"},
                                          "last", "/run/last.safetensors");
  EXPECT_EQ(copied.path, "/models/P/n.id/models/last.safetensors");
  EXPECT_EQ(copied.uri, "file:///models/P/n.id/models/last.safetensors");
}

TEST(SenderState, ComesBackAsItWas) {
  const test::TemporaryFolder folder;
  detail::SenderState state = detail::read_sender_state(folder.path());
  EXPECT_FALSE(state.task);
  EXPECT_EQ(state.offset, 0);
  state.task = TaskIdentity{"id", "a \"name\"", "pid", "project"};
  state.adopted = true;
  state.offset = 12;
  state.console_sent = 5;
  state.console_tried = 7;
  state.waiting["best"] = {"/f", "notes", 3};
  state.status = "in_progress";
  state.lost = 1;
  detail::write_sender_state(folder.path(), state);
  const detail::SenderState back = detail::read_sender_state(folder.path());
  EXPECT_EQ(back.task->name, "a \"name\"");
  EXPECT_TRUE(back.adopted);
  EXPECT_EQ(std::tuple(back.offset, back.console_sent, back.console_tried, back.lost),
            std::tuple(int64_t{12}, int64_t{5}, int64_t{7}, int64_t{1}));
  EXPECT_EQ(back.waiting, state.waiting);
  EXPECT_EQ(back.status, "in_progress");
  std::ofstream(folder.path() + "/clearml.json") << "{";
  EXPECT_THROW(detail::read_sender_state(folder.path()), DataError);
}

}  // namespace
}  // namespace lab
