// The sender beside a small server that keeps what it is told.

#include "lab/track/clearml_sender.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "lab/track/spool.h"
#include "unit/temporary_folder.h"
#include "unit/track/scripted_server.h"

namespace lab {
namespace {

using Json = nlohmann::json;

class Sender : public testing::Test {
 protected:
  Sender() {
    setenv("no_proxy", "127.0.0.1,localhost", 1);
    settings_.api_host = server_.url();
    settings_.access_key = Secret("KEY1");
    settings_.secret_key = Secret("SECRET1");
    TaskDescription task;
    task.stem = "a-b";
    task.token = "0123456789abcdef";
    task.project = "P12";
    Spool spool(folder_.path(), Log::silent());
    spool.task(task);
    spool.status("in_progress", "", "");
    for (int i = 0; i < 3; ++i) spool.console(i % 2 == 0 ? "info" : "warning", text("line ", i));
    spool.scalars({{.tag = "loss/train", .step = 4, .epoch = 0, .value = 0.5}}, 1.0);
  }

  // What is left of a request's path: "tasks.get_all".
  static std::string action_of(const std::string& request) {
    const std::string path = request.substr(0, request.find(" HTTP/"));
    return path.substr(path.rfind('/') + 1);
  }
  static std::string body_of(const std::string& request) {
    return request.substr(request.find("\r\n\r\n") + 4);
  }
  static test::Reply said(const Json& data) {
    return test::reply(200, Json{{"meta", {{"result_code", 200}}}, {"data", data}}.dump());
  }
  static test::Reply refused(int code, const std::string& why) {
    return test::reply(
        code, Json{{"meta", {{"result_code", code}, {"result_msg", why}}}, {"data", Json::object()}}.dump());
  }

  test::Reply answer(const std::string& request) {
    const std::string action = action_of(request);
    if (action == "auth.login") return said({{"token", "a.b.c"}});
    if (action == "projects.get_all") return said({{"projects", {{{"id", "p"}}}}});
    if (action == "tasks.create") {
      tasks_.push_back({{"id", text("t", tasks_.size())},
                        {"name", Json::parse(body_of(request))["name"]},
                        {"created", "1"}});
      return said({{"id", tasks_.back()["id"]}});
    }
    if (action == "tasks.get_all") return said({{"tasks", tasks_}});
    if (action == "events.get_task_log") return said({{"events", console_}});
    if (action == "events.add_batch") return add(body_of(request));
    if (action == "models.create") return said({{"id", "m0"}});
    if (action == "tasks.add_or_update_model") return put(Json::parse(body_of(request)));
    if (action.starts_with("tasks.")) status_ = action;
    return said(Json::object());
  }

  // A server takes no models for a task that was ended.
  test::Reply put(const Json& entry) {
    if (status_ != "tasks.started")
      return test::reply(
          400, R"({"meta":{"result_code":400,"result_subcode":110,"result_msg":"Invalid task status"}})");
    models_[entry["name"]] = entry["iteration"];
    return said(Json::object());
  }

  test::Reply add(const std::string& body) {
    std::vector<Json> events;
    std::istringstream in(body);
    for (std::string line; std::getline(in, line);) events.push_back(Json::parse(line));
    if (events.size() > most_events_) return test::reply(413, "<html>too large</html>");
    if (tasks_.empty()) return refused(400, "Invalid task id");
    for (const Json& event : events) {
      if (event["type"] == "log")
        console_.push_back(event);
      else
        points_.push_back(event);
    }
    return said({{"added", events.size()}, {"errors", 0}});
  }

  // As the thread that saves does it, at any time.
  void save_model(int64_t iteration) {
    std::ofstream(folder_ / "last.safetensors") << iteration;
    Spool(folder_.path(), Log::silent()).model("last", folder_ / "last.safetensors", iteration, "");
  }
  void send_all(ClearmlSender& sender) {
    for (int rounds = 0; rounds < 5 && !sender.done(); ++rounds) {
      sender.send(std::chrono::seconds(20));
      sender.upload(std::chrono::seconds(20), true);
    }
    EXPECT_TRUE(sender.done()) << sender.left();
    EXPECT_EQ(sender.refusals(), "");
  }

  ClearmlSender sender() {
    ApiOptions options;
    options.retry = {std::chrono::milliseconds(1), std::chrono::milliseconds(2)};
    return {folder_.path(), settings_, Log::silent(), options};
  }
  std::vector<std::string> lines() const {
    std::vector<std::string> out;
    for (const Json& event : console_) out.push_back(event["msg"]);
    return out;
  }

  const test::TemporaryFolder folder_;
  ClearmlSettings settings_;
  Json tasks_ = Json::array(), console_ = Json::array(), points_ = Json::array();
  std::string status_;            // the last call that gave the task one
  Json models_ = Json::object();  // iterations by slot
  size_t most_events_ = 1000;
  test::ScriptedServer server_{[this](const std::string& request) { return answer(request); }};
  const std::vector<std::string> all_lines_ = {"line 0", "line 1", "line 2"};
};

TEST_F(Sender, SendsEachRecordOnce) {
  for (int i = 0; i < 2; ++i) {
    auto one = sender();
    const auto error = one.send(std::chrono::seconds(20));
    EXPECT_FALSE(error) << error->message;
    EXPECT_TRUE(one.done());
    EXPECT_EQ(one.refusals(), "");
  }
  EXPECT_EQ(lines(), all_lines_);
  EXPECT_EQ(points_.size(), 1u);
  EXPECT_EQ(tasks_.size(), 1u);
}

TEST_F(Sender, AStateThatIsLostOrDamagedDoublesNothing) {
  EXPECT_FALSE(sender().send(std::chrono::seconds(20)));
  for (const char* state : {"", "{", R"({"task":null})", "away"}) {
    if (std::string(state) == "away")
      std::filesystem::remove(folder_ / "clearml.json");
    else
      std::ofstream(folder_ / "clearml.json") << state;
    auto again = sender();
    EXPECT_FALSE(again.send(std::chrono::seconds(20))) << state;
    EXPECT_EQ(again.task()->id, "t0") << state;
    EXPECT_EQ(lines(), all_lines_) << state;
  }
  EXPECT_EQ(tasks_.size(), 1u);
}

TEST_F(Sender, WhatIsRefusedForGoodIsToldAndCanBeOfferedAgain) {
  {
    auto one = sender();
    EXPECT_FALSE(one.send(std::chrono::seconds(20)));
    tasks_ = Json::array();  // somebody deletes it
    Spool(folder_.path(), Log::silent()).console("error", "line 3");
    EXPECT_FALSE(one.send(std::chrono::seconds(20)));
    EXPECT_TRUE(one.done());
    EXPECT_NE(one.refusals().find("1 record of "), std::string::npos) << one.refusals();
  }
  console_ = Json::array();
  std::filesystem::remove(folder_ / "clearml.json");
  auto again = sender();
  EXPECT_FALSE(again.send(std::chrono::seconds(20)));
  EXPECT_EQ(again.refusals(), "");
  EXPECT_EQ(lines().size(), 4u);
}

TEST_F(Sender, AProxyThatTakesNothingForAWhileCostsNothing) {
  most_events_ = 0;
  {
    auto one = sender();
    const auto error = one.send(std::chrono::seconds(20));
    ASSERT_TRUE(error);
    EXPECT_TRUE(error->temporary);
    EXPECT_EQ(one.refusals(), "");
  }
  for (const size_t most : {1, 2}) {  // one that takes a part
    most_events_ = most;
    auto one = sender();
    EXPECT_FALSE(one.send(std::chrono::seconds(20)));
    EXPECT_EQ(lines(), all_lines_);
  }
  EXPECT_EQ(points_.size(), 1u);
}

TEST_F(Sender, AModelBehindTheEndIsSentAndTheEndStands) {
  for (const bool is_told : {false, true}) {
    const int64_t iteration = is_told ? 8 : 4;
    auto one = sender();
    Spool(folder_.path(), Log::silent()).status("failed", "rank 1 died", "");
    if (is_told) {
      send_all(one);
      EXPECT_EQ(status_, "tasks.failed");
    }
    save_model(iteration);
    EXPECT_FALSE(one.done());
    send_all(one);
    EXPECT_EQ(status_, "tasks.failed") << is_told;
    EXPECT_EQ(models_["last"], iteration);
  }
}

TEST_F(Sender, ATaskThatWasReopenedIsEndedAgainByAnyProcess) {
  Spool(folder_.path(), Log::silent()).status("failed", "rank 1 died", "");
  {
    auto one = sender();
    send_all(one);
    save_model(4);
    EXPECT_FALSE(one.send(std::chrono::seconds(20)));
    EXPECT_FALSE(one.upload(std::chrono::seconds(20), true));
  }  // killed here
  EXPECT_EQ(status_, "tasks.started");
  auto next = sender();
  EXPECT_EQ(next.left(), "how the run ended");
  send_all(next);
  EXPECT_EQ(status_, "tasks.failed");
}

TEST_F(Sender, AnEndFromWhichTheRunWentOnIsNone) {
  Spool(folder_.path(), Log::silent()).status("stopped", "SIGTERM", "");
  Spool(folder_.path(), Log::silent()).status("in_progress", "", "");
  auto one = sender();
  send_all(one);
  EXPECT_EQ(status_, "tasks.started");
}

}  // namespace
}  // namespace lab
