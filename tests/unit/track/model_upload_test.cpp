#include "track/model_upload.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "unit/temporary_folder.h"
#include "unit/track/scripted_server.h"

namespace lab::detail {
namespace {

namespace fs = std::filesystem;

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
    const WaitingModel model{folder_ / "checkpoints/best.safetensors", "", 7};
    return publish_model(api, {ModelStore::Kind::folder, folder_ / "shared"}, settings_,
                         {.id = "t1", .name = "run", .project_id = "p1", .project = "P"}, "best", model,
                         deadline, false);
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
  test::ScriptedServer server_{taking};
  ClearmlSettings settings_;
};

TEST_F(ModelUpload, AFolderGetsTheFileAsAWhole) {
  ClearmlApi api(settings_);
  const auto error = publish(api, std::chrono::seconds(20));
  EXPECT_FALSE(error) << error->message;
  EXPECT_EQ(shared_files(), std::vector<std::string>{folder_ / "shared/P/run.t1/models/best.safetensors"});
  EXPECT_EQ(test::read_bytes(folder_ / "shared/P/run.t1/models/best.safetensors"), bytes_);
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

}  // namespace
}  // namespace lab::detail
