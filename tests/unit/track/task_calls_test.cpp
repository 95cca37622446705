#include <gtest/gtest.h>
#include <stdlib.h>

#include <map>
#include <nlohmann/json.hpp>

#include "lab/track/clearml_task.h"
#include "unit/track/scripted_server.h"

namespace lab {
namespace {

using namespace std::chrono_literals;
using Json = nlohmann::json;
using test::Reply;
using test::reply;
using Names = std::vector<std::string>;

Reply envelope(const Json& data, int code = 200, int subcode = 0) {
  const Json meta = {{"result_code", code}, {"result_subcode", subcode}, {"result_msg", "words"}};
  return reply(code, Json({{"meta", meta}, {"data", data}}).dump());
}

// Answers each action with its data here, and keeps what it was asked.
struct Server {
  std::map<std::string, Json> data = {{"auth.login", {{"token", "a.b.c"}}}};
  std::vector<std::pair<std::string, Json>> calls;
  std::function<Reply(const std::string& action, const Json& body)> other = [](auto&, auto&) {
    return envelope(Json::object());
  };
  test::ScriptedServer server{[this](const std::string& request) {
    const std::string line = request.substr(0, request.find(" HTTP/"));
    const std::string action = line.substr(line.rfind('/') + 1);
    if (action == "auth.login") return envelope(data.at(action));
    calls.emplace_back(action, Json::parse(request.substr(request.find("\r\n\r\n") + 4)));
    return data.contains(action) ? envelope(data.at(action)) : other(action, calls.back().second);
  }};

  ClearmlApi api() const {
    setenv("no_proxy", "127.0.0.1", 1);
    ClearmlSettings settings;
    settings.api_host = server.url();
    settings.access_key = Secret("KEY1");
    settings.secret_key = Secret("SECRET1");
    return ClearmlApi(settings);
  }
  std::vector<std::string> actions() const {
    std::vector<std::string> names;
    for (const auto& call : calls) names.push_back(call.first);
    return names;
  }
  // Of the only call of that action.
  Json body_of(const std::string& action) const {
    Json body;
    for (const auto& call : calls)
      if (call.first == action) body = call.second;
    return body;
  }
};

TaskDescription description() {
  TaskDescription task;
  task.stem = "toy-line";
  task.token = "0123456789abcdef";
  task.project = "of the config";
  task.parameters = {{"config/lr", "0.1", "float"}};
  task.configuration = "lr = 0.1\n";
  task.script.binary = "lab_train";
  return task;
}

class AdoptTask : public testing::Test {
 protected:
  AdoptTask() {
    server.data["tasks.get_by_id"] = {
        {"task", {{"id", "t1"}, {"name", "a clone"}, {"project", "p1"}, {"tags", {"theirs", "both"}}}}};
    server.data["projects.get_by_id"] = {{"project", {{"id", "p1"}, {"name", "of the task"}}}};
  }
  RegisteredTask adopt(const TaskDescription& task) {
    ClearmlApi api = server.api();
    return adopt_task(api, "t1", task, 10s);
  }
  Server server;
};

TEST_F(AdoptTask, ReplacesWhatIsOursAndNothingElse) {
  const RegisteredTask adopted = adopt(description());
  ASSERT_TRUE(adopted.task) << adopted.error->message;
  EXPECT_EQ(server.actions(), (Names{"tasks.get_by_id", "tasks.edit_hyper_params", "tasks.edit_configuration",
                                     "projects.get_by_id"}));
  const Json parameter = {{"section", "hparams"}, {"name", "config/lr"}, {"value", "0.1"}, {"type", "float"}};
  EXPECT_EQ(server.body_of("tasks.edit_hyper_params"), Json({{"task", "t1"},
                                                             {"force", true},
                                                             {"replace_hyperparams", "section"},
                                                             {"hyperparams", {parameter}}}));
  const Json object = {{"name", "config"}, {"value", "lr = 0.1\n"}, {"type", "toml"}};
  EXPECT_EQ(
      server.body_of("tasks.edit_configuration"),
      Json({{"task", "t1"}, {"force", true}, {"replace_configuration", false}, {"configuration", {object}}}));
}

TEST_F(AdoptTask, IsInTheTasksProjectNotInTheConfigs) {
  const RegisteredTask adopted = adopt(description());
  ASSERT_TRUE(adopted.task);
  EXPECT_EQ(adopted.task->id, "t1");
  EXPECT_EQ(adopted.task->name, "a clone");
  EXPECT_EQ(adopted.task->project_id, "p1");
  EXPECT_EQ(adopted.task->project, "of the task");
}

TEST_F(AdoptTask, TagsOfTheConfigComeBesideTheOthers) {
  TaskDescription task = description();
  task.tags = {"both", "ours"};
  ASSERT_TRUE(adopt(task).task);
  EXPECT_EQ(server.body_of("tasks.edit"),
            Json({{"task", "t1"}, {"force", true}, {"tags", {"theirs", "both", "ours"}}}));
  server.calls.clear();
  task.tags = {"theirs"};
  ASSERT_TRUE(adopt(task).task);
  EXPECT_EQ(server.body_of("tasks.edit"), Json());
}

TEST_F(AdoptTask, WithoutTheTaskNothingIsEdited) {
  server.data.erase("tasks.get_by_id");
  server.other = [](auto&, auto&) { return envelope(Json::object(), 400, 101); };
  const RegisteredTask adopted = adopt(description());
  ASSERT_TRUE(adopted.error);
  EXPECT_EQ(adopted.error->result_subcode, 101);
  EXPECT_EQ(server.actions(), Names{"tasks.get_by_id"});
}

// A server that makes each task that it is asked for, but below no parent.
class RegisterTask : public testing::Test {
 protected:
  RegisterTask() {
    server.data["projects.get_all"] = {{"projects", {{{"id", "p1"}}}}};
    server.other = [this](const std::string& action, const Json& body) {
      if (action == "tasks.create" && body.contains("parent")) return envelope(Json::object(), 400, subcode);
      if (action == "tasks.create") made = {{{"id", "t1"}, {"name", body["name"]}, {"created", "monday"}}};
      return envelope(action == "tasks.get_all" ? Json{{"tasks", made}} : Json::object());
    };
  }
  RegisteredTask make() {
    ClearmlApi api = server.api();
    TaskDescription task = description();
    task.parent = "gone";
    return register_task(api, task, 10s);
  }
  int subcode = 101;
  Json made = Json::array();
  Server server;
};

TEST_F(RegisterTask, AParentThatIsGoneIsLeftOut) {
  const RegisteredTask registered = make();
  ASSERT_TRUE(registered.task) << registered.error->message;
  EXPECT_EQ(registered.task->name, "toy-line_v0");
  EXPECT_NE(registered.warning.find("\"gone\""), std::string::npos) << registered.warning;
}

TEST_F(RegisterTask, WhatElseIsRefusedIsAnError) {
  subcode = 12;
  const RegisteredTask registered = make();
  ASSERT_TRUE(registered.error);
  EXPECT_EQ(registered.error->result_subcode, 12);
}

}  // namespace
}  // namespace lab
