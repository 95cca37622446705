#include "track/model_upload.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "lab/track/url.h"
#include "unit/temporary_folder.h"
#include "unit/track/scripted_server.h"

namespace lab::detail {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

// A server that takes every model.
test::Reply taking(const std::string& request) {
  const std::string data = request.find("auth.login") != std::string::npos       ? R"({"token":"t"})"
                           : request.find("models.get_all") != std::string::npos ? R"({"models":[]})"
                           : request.find("models.create") != std::string::npos  ? R"({"id":"m1"})"
                                                                                 : "{}";
  return test::reply(200, R"({"meta":{"result_code":200},"data":)" + data + "}");
}

class ModelUpload : public testing::Test {
 protected:
  ModelUpload() {
    settings_.api_host = server_.url();
    settings_.access_key = Secret("key");
    settings_.secret_key = Secret("secret");
    fs::create_directories(folder_ / "checkpoints");
    test::write_bytes(folder_ / "checkpoints/best.safetensors", bytes_);
  }
  std::optional<ApiError> publish(ClearmlApi& api, std::chrono::milliseconds deadline) {
    const SpooledModel model{folder_ / "checkpoints/best.safetensors", "", 7};
    return publish_model(api, {ModelStore::Kind::folder, folder_ / "shared"}, settings_,
                         {.id = "t1", .name = "run", .project_id = "p1", .project = "P"}, "best", model,
                         deadline, [] { return false; });
  }
  std::vector<std::string> shared_files() const {
    std::vector<std::string> names;
    if (fs::exists(folder_ / "shared"))
      for (const auto& entry : fs::recursive_directory_iterator(folder_ / "shared"))
        if (entry.is_regular_file()) names.push_back(entry.path().string());
    return names;
  }

  const std::string bytes_ = std::string(3'000'001, 'x') + "end";
  const test::TemporaryFolder folder_;
  bool no_metadata_ = false;
  test::ScriptedServer server_{[this](const std::string& request) {
    if (no_metadata_ && request.find("add_or_update_metadata") != std::string::npos)
      return test::reply(404, R"({"meta":{"result_code":404,"result_msg":"no such endpoint"},"data":{}})");
    return taking(request);
  }};
  ClearmlSettings settings_;
};

TEST_F(ModelUpload, AFolderGetsTheFileAsAWhole) {
  ClearmlApi api(settings_);
  const auto error = publish(api, std::chrono::seconds(20));
  EXPECT_FALSE(error) << error->message;
  EXPECT_EQ(shared_files(), std::vector<std::string>{folder_ / "shared/P/run.t1/models/best.safetensors"});
  EXPECT_EQ(test::read_bytes(folder_ / "shared/P/run.t1/models/best.safetensors"), bytes_);
}

TEST_F(ModelUpload, AServerThatTakesNoMetadataGetsTheModel) {
  no_metadata_ = true;
  ClearmlApi api(settings_);
  const auto error = publish(api, std::chrono::seconds(20));
  EXPECT_FALSE(error) << error->message;
  EXPECT_NE(server_.requests().back().find("tasks.add_or_update_model"), std::string::npos);
}

TEST_F(ModelUpload, ACopyThatIsCalledOffLeavesNothing) {
  for (const bool cancelled : {true, false}) {
    ClearmlApi api(settings_);
    if (cancelled) api.cancel();
    const auto error = publish(api, std::chrono::milliseconds(cancelled ? 20'000 : -1));
    ASSERT_TRUE(error);
    EXPECT_TRUE(error->temporary);
    EXPECT_TRUE(shared_files().empty()) << shared_files().front();
    EXPECT_TRUE(server_.requests().empty());
  }
}

TEST_F(ModelUpload, AFolderThatTakesNothingIsNamed) {
  test::write_bytes(folder_ / "shared", "a file");
  ClearmlApi api(settings_);
  const auto error = publish(api, std::chrono::seconds(20));
  ASSERT_TRUE(error);
  EXPECT_NE(error->message.find("shared/P/run.t1/models/best.safetensors"), std::string::npos)
      << error->message;
}

std::string storage_path(const std::string& project, const std::string& task) {
  ClearmlSettings settings;
  settings.files_host = "http://files";
  const TaskIdentity identity{.id = "t1", .name = task, .project_id = "p1", .project = project};
  const ModelPlace place = model_place({}, settings, identity, "best", "/x/best.safetensors");
  EXPECT_EQ(place.uri, "http://files" + percent_encoded(place.storage_path, "/"));
  return place.storage_path;
}

TEST(ModelPlace, IsTheOneOfTheSdkForOrdinaryNames) {
  const std::string end = ".t1/models/best.safetensors";
  EXPECT_EQ(storage_path("A/B (#1)", "mnist-mnist_v3"), "/A/B (%231)/mnist-mnist_v3" + end);
  EXPECT_EQ(storage_path("..a/.b/c..", "\u00e4 %"), "/..a/.b/c../%C3%A4 %25" + end);
  EXPECT_EQ(storage_path("P", std::string(96, 'n')), "/P/" + std::string(95, 'n') + end);
}

TEST(ModelPlace, NeverLeadsElsewhere) {
  const std::string end = ".t1/models/best.safetensors";
  EXPECT_EQ(storage_path("../..", "../../x"), "/_./_./_./_./x" + end);
  EXPECT_EQ(storage_path("a/../b/.", ".."), "/a/_./b/_/_." + end);
}

TEST(ModelPlace, HasNoNameThatIsTooLongForAFolder) {
  const std::string end = ".t1/models/best.safetensors", letters(222, 'p');
  EXPECT_EQ(storage_path(letters + "/" + letters, "x"), "/" + letters + "/" + letters + "/x" + end);
  EXPECT_EQ(storage_path(letters + "pp/q", "x"), "/" + letters + "/q/x" + end);
  std::string wide, encoded;
  for (int i = 0; i < 30; ++i) wide += "\U0001f600";
  for (int i = 0; i < 18; ++i) encoded += "%F0%9F%98%80";
  EXPECT_EQ(storage_path(wide, wide), "/" + encoded + "/" + encoded + end);
  EXPECT_EQ(storage_path("P", std::string(94, 'n') + "\u00e9"), "/P/" + std::string(94, 'n') + end);
}

std::string answer(const Json& data) {
  return Json{{"meta", {{"result_code", 200}, {"result_subcode", 0}}}, {"data", data}}.dump();
}

// Takes one model, and puts a newer file in its place while it is sent.
class UploadOfAFileThatIsReplaced : public testing::Test {
 protected:
  UploadOfAFileThatIsReplaced() {
    setenv("no_proxy", "127.0.0.1,localhost", 1);
    test::write_bytes(file_, "weights");
  }

  test::Reply take(const std::string& request) {
    const std::string line = request.substr(0, request.find('\r'));
    if (line == "POST / HTTP/1.1") {
      uploaded_ = request;
      test::write_bytes(temporary_ / "newer", "trained on");
      fs::rename(temporary_ / "newer", file_);
      return test::reply(200, Json::array({"/project/name.id/models/last.safetensors"}).dump());
    }
    if (line.find("metadata") != std::string::npos)
      metadata_ = Json::parse(request.substr(request.find("\r\n\r\n") + 4)).at("metadata");
    return test::reply(200, answer({{"token", "a.b.c"}, {"id", "m1"}}));
  }

  const test::TemporaryFolder temporary_;
  const std::string file_ = temporary_ / "last.safetensors";
  std::string uploaded_;
  Json metadata_;
  test::ScriptedServer server_{[this](const std::string& request) { return take(request); }};
};

TEST_F(UploadOfAFileThatIsReplaced, SaysBesideTheModelWhatItHasSent) {
  ClearmlSettings settings;
  settings.api_host = settings.files_host = server_.url();
  settings.access_key = Secret("KEY1");
  settings.secret_key = Secret("SECRET1");
  ClearmlApi api(settings);
  const auto error = publish_model(api, {}, settings, {"id", "name", "p", "project"}, "last", {file_, "", 1},
                                   std::chrono::seconds(30), [] { return false; });
  ASSERT_FALSE(error) << error->message;
  EXPECT_NE(uploaded_.find("\r\n\r\nweights\r\n"), std::string::npos) << uploaded_;
  const Json expected = {{{"key", "lab.size"}, {"type", "int"}, {"value", "7"}},
                         {{"key", "lab.xxh3"}, {"type", "str"}, {"value", "06cc94573ff53c71"}}};
  EXPECT_EQ(metadata_, expected);
}

}  // namespace
}  // namespace lab::detail
