#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "track/model_upload.h"
#include "unit/temporary_folder.h"
#include "unit/track/scripted_server.h"

namespace lab {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using test::Reply;
using test::reply;

std::string answer(const Json& data) {
  return Json{{"meta", {{"result_code", 200}, {"result_subcode", 0}}}, {"data", data}}.dump();
}

// Takes one model, and puts a newer file in its place while it is sent.
class Upload : public testing::Test {
 protected:
  Upload() {
    setenv("no_proxy", "127.0.0.1,localhost", 1);
    test::write_bytes(file_, "weights");
  }

  Reply take(const std::string& request) {
    const std::string line = request.substr(0, request.find('\r'));
    if (line == "POST / HTTP/1.1") {
      uploaded_ = request;
      test::write_bytes(temporary_ / "newer", "trained on");
      fs::rename(temporary_ / "newer", file_);
      return reply(200, Json::array({"/project/name.id/models/last.safetensors"}).dump());
    }
    if (line.find("metadata") != std::string::npos)
      metadata_ = Json::parse(request.substr(request.find("\r\n\r\n") + 4)).at("metadata");
    return reply(200, answer({{"token", "a.b.c"}, {"id", "m1"}}));
  }

  const test::TemporaryFolder temporary_;
  const std::string file_ = temporary_ / "last.safetensors";
  std::string uploaded_;
  Json metadata_;
  test::ScriptedServer server_{[this](const std::string& request) { return take(request); }};
};

TEST_F(Upload, SaysBesideTheModelWhatItHasSent) {
  ClearmlSettings settings;
  settings.api_host = settings.files_host = server_.url();
  settings.access_key = Secret("KEY1");
  settings.secret_key = Secret("SECRET1");
  ClearmlApi api(settings);
  const auto error = detail::publish_model(api, {}, settings, {"id", "name", "p", "project"}, "last",
                                           {file_, "", 1}, std::chrono::seconds(30), false);
  ASSERT_FALSE(error) << error->message;
  EXPECT_NE(uploaded_.find("\r\n\r\nweights\r\n"), std::string::npos) << uploaded_;
  const Json expected = {{{"key", "lab.size"}, {"type", "int"}, {"value", "7"}},
                         {{"key", "lab.xxh3"}, {"type", "str"}, {"value", "06cc94573ff53c71"}}};
  EXPECT_EQ(metadata_, expected);
}

}  // namespace
}  // namespace lab
