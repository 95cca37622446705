#include "lab/track/offline_session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "lab/core/error.h"
#include "lab/track/spool.h"
#include "unit/temporary_folder.h"

namespace lab {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

const std::string token = "0123456789abcdef";
const std::string id = "offline-" + token + token;

TaskDescription description() {
  TaskDescription task;
  task.stem = "toy-line";
  task.token = token;
  task.project = "A/B (#1)";
  task.tags = {"first"};
  task.parameters = {{"config/lr", "0.001", "float"}, {"config/note", "Ünïcode \"q\"", "str"}};
  task.configuration = "lr = 0.001\n";
  task.script.binary = "lab_train";
  return task;
}

ClearmlSettings with_server() {
  ClearmlSettings settings;
  settings.files_host = "http://files:8081";
  settings.access_key = Secret("key");
  settings.secret_key = Secret("secret");
  return settings;
}

class OfflineSessionTest : public testing::Test {
 protected:
  std::string write(const ClearmlSettings& settings = with_server()) {
    return write_offline_session(run_.path(), "toy-line_v1", settings, Log::silent());
  }
  void append(const std::string& bytes) {
    std::ofstream(run_ / spool_file, std::ios::binary | std::ios::app) << bytes;
  }
  Json task_json() { return Json::parse(test::read_bytes(write() + "/task.json")); }

  // The lines of a file of the session, each a list.
  static std::vector<Json> lists(const std::string& session, const std::string& file) {
    std::vector<Json> lines;
    std::ifstream in(session + "/" + file, std::ios::binary);
    for (std::string line; std::getline(in, line);) lines.push_back(Json::parse(line));
    return lines;
  }
  static std::vector<Json> events(const std::string& session, const std::string& file) {
    std::vector<Json> all;
    for (const Json& line : lists(session, file)) all.insert(all.end(), line.begin(), line.end());
    return all;
  }
  std::vector<std::string> messages() {
    std::vector<std::string> all;
    for (const Json& event : events(write(), "log.jsonl")) all.push_back(event.at("msg"));
    return all;
  }
  // "metric/variant@iter=value"
  std::vector<std::string> points() {
    std::vector<std::string> all;
    for (const Json& event : events(write(), "metrics.jsonl"))
      all.push_back(text(event.at("metric").get<std::string>(), '/', event.at("variant").get<std::string>(),
                         '@', event.at("iter").get<int64_t>(), '=', event.value("value", Json("plot"))));
    return all;
  }

  const test::TemporaryFolder run_;
};

TEST_F(OfflineSessionTest, SaysWhatTheTaskIs) {
  Spool spool(run_.path(), Log::silent());
  spool.task(description());
  spool.status("completed", "", "");
  EXPECT_EQ(write(), run_ / ("clearml_offline/" + id));
  const Json task = task_json();
  EXPECT_EQ(task["id"], id);
  EXPECT_EQ(task["name"], "toy-line_v1");
  EXPECT_EQ(task["project_name"], "A/B (#1)");
  EXPECT_EQ(task["type"], "training");
  EXPECT_EQ(task["tags"], Json({"first"}));
  EXPECT_EQ(task["offline_folder"], run_ / ("clearml_offline/" + id));
  EXPECT_EQ(task["hyperparams"]["hparams"]["config/lr"],
            Json({{"section", "hparams"}, {"name", "config/lr"}, {"value", "0.001"}, {"type", "float"}}));
  EXPECT_EQ(task["hyperparams"]["hparams"]["config/note"]["value"], "Ünïcode \"q\"");
  EXPECT_EQ(task["configuration"]["config"]["value"], "lr = 0.001\n");
  EXPECT_EQ(task["script"]["binary"], "lab_train");
  EXPECT_FALSE(task.contains("parent"));
  EXPECT_EQ(task["offline_output_models"], Json::array());
}

// The importer reads the files in the encoding of its locale.
TEST_F(OfflineSessionTest, IsAscii) {
  Spool spool(run_.path(), Log::silent());
  spool.task(description());
  spool.console("info", "Zürich → 東京");
  spool.scalars({{"Größe/α", 1, 0, 0.5}}, 1);
  const std::string session = write();
  for (const auto& entry : fs::directory_iterator(session))
    for (const char c : test::read_bytes(entry.path())) ASSERT_GE(c, 0) << entry.path();
  EXPECT_THAT(points(), ElementsAre("Größe/α@1=0.5"));
  EXPECT_THAT(messages(), ElementsAre("Zürich → 東京"));
}

TEST_F(OfflineSessionTest, TellsWhatTheImporterCannot) {
  struct Case {
    std::string status, reason, message;
    std::vector<std::string> tags;
    std::string comment;
  };
  for (const auto& [status, reason, message, tags, comment] : std::vector<Case>{
           {"completed", "r", "m", {"first"}, "\nparent task: 77"},
           {"failed", "exit 65", "bad", {"first", "failed"}, "\nfailed: exit 65: bad\nparent task: 77"},
           {"stopped", "signal", "", {"first", "stopped"}, "\nstopped: signal\nparent task: 77"},
           {"in_progress", "r", "", {"first", "unfinished"}, "\nunfinished\nparent task: 77"}}) {
    fs::remove(run_ / spool_file);
    Spool spool(run_.path(), Log::silent());
    TaskDescription task = description();
    task.parent = "77";
    spool.task(task);
    spool.status("in_progress", "", "");
    spool.status(status, reason, message);
    const Json written = task_json();
    EXPECT_EQ(written["tags"], Json(tags));
    EXPECT_THAT(written["comment"], testing::EndsWith(run_.path() + comment));
  }
}

TEST_F(OfflineSessionTest, HasEachPointOnce) {
  Spool spool(run_.path(), Log::silent());
  spool.task(description());
  const auto say = [&](const std::string& tag, int64_t step, double value) {
    spool.scalars({{tag, step, 0, value}}, 1);
  };
  say("loss/train", 1, 0.1);
  say("loss/train", 2, 0.2);
  say("loss/validate", 2, 0.9);
  say("loss/train", 3, 0.3);
  // Killed, and gone on from step 1 with other validations.
  say("loss/train", 2, 0.25);
  say("loss/train", 3, 0.35);
  say("loss/train", 3, 0.36);
  say("loss/train", 4, 0.4);
  say("loss/validate", 1, 0.8);
  EXPECT_THAT(points(), ElementsAre("loss/train@1=0.1", "loss/validate@2=0.9", "loss/train@2=0.25",
                                    "loss/train@3=0.36", "loss/train@4=0.4", "loss/validate@1=0.8"));
}

TEST_F(OfflineSessionTest, HasThePlots) {
  Spool spool(run_.path(), Log::silent());
  spool.task(description());
  spool.plot("loss", "train", 2, R"({"data":[1]})");
  spool.scalars({{"loss/train", 2, 0, 0.5}}, 1);  // shares its names, but is another thing
  spool.plot("loss", "train", 2, R"({"data":[2]})");
  spool.plot("loss", "broken", 2, R"({"data":)");
  const auto found = events(write(), "metrics.jsonl");
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].at("value"), 0.5);
  EXPECT_EQ(found[1].at("plot_str"), R"({"data":[2]})");
}

TEST_F(OfflineSessionTest, EventsAreOfTheSession) {
  Spool spool(run_.path(), Log::silent());
  spool.task(description());
  spool.scalars({{"loss", int64_t{1} << 60, 0, 1e-300}}, 1700000000.5);
  spool.console("warning", "careful");
  const std::string session = write();
  EXPECT_EQ(events(session, "metrics.jsonl").at(0), Json({{"type", "training_stats_scalar"},
                                                          {"task", id},
                                                          {"timestamp", 1700000000500},
                                                          {"iter", int64_t{1} << 60},
                                                          {"metric", "loss"},
                                                          {"variant", "loss"},
                                                          {"value", 1e-300}}));
  const Json line = events(session, "log.jsonl").at(0);
  EXPECT_EQ(line.at("task"), id);
  EXPECT_EQ(line.at("level"), "warning");
  EXPECT_GT(line.at("timestamp"), 1700000000000);
  EXPECT_FALSE(line.contains("type"));
}

TEST_F(OfflineSessionTest, JoinsTheConsole) {
  Spool(run_.path(), Log::silent()).task(description());
  const auto say = [&](int64_t time, const std::string& level, const std::string& message) {
    append(
        Json({{"type", "log"}, {"level", level}, {"worker", "host"}, {"msg", message}, {"timestamp", time}})
            .dump() +
        "\n");
  };
  say(1000, "info", "a");
  say(1999, "info", "b");
  say(2000, "info", "c");
  say(2001, "warning", "d");
  say(2002, "info", "e");
  say(2003, "info", "f");
  const auto found = events(write(), "log.jsonl");
  std::vector<std::pair<int64_t, std::string>> joined;
  for (const Json& event : found) joined.emplace_back(event.at("timestamp"), event.at("msg"));
  EXPECT_THAT(joined, ElementsAre(std::pair(1999, "a\nb"), std::pair(2000, "c"), std::pair(2001, "d"),
                                  std::pair(2003, "e\nf")));
}

TEST_F(OfflineSessionTest, KeepsRequestsSmall) {
  Spool spool(run_.path(), Log::silent());
  spool.task(description());
  for (int64_t step = 0; step < 2500; ++step) spool.scalars({{"loss", step, 0, 1}}, 1);
  spool.plot("big", "x", 0, Json(std::string(700'000, 'x')).dump());
  spool.plot("big", "y", 0, Json(std::string(700'000, 'y')).dump());
  spool.plot("too big", "z", 0, Json(std::string(15'000'000, 'z')).dump());
  std::vector<size_t> sizes;
  for (const Json& list : lists(write(), "metrics.jsonl")) sizes.push_back(list.size());
  EXPECT_THAT(sizes, ElementsAre(1000, 1000, 501, 1));
}

TEST_F(OfflineSessionTest, RefersToTheNewestModels) {
  fs::create_directory(run_ / "checkpoints");
  for (const std::string name : {"best", "last"})
    test::write_bytes(run_ / ("checkpoints/" + name + ".safetensors"), name);
  Spool spool(run_.path(), Log::silent());
  spool.task(description());
  spool.model("best", run_ / "checkpoints/best.safetensors", 10, "old");
  spool.model("last", run_ / "checkpoints/last.safetensors", 20, "");
  spool.model("best", run_ / "checkpoints/best.safetensors", 30, "new");
  spool.model("gone", run_ / "checkpoints/gone.safetensors", 30, "");
  const Json models = task_json()["offline_output_models"];
  ASSERT_EQ(models.size(), 2u);
  EXPECT_EQ(models[0]["output_uri"], "http://files:8081");
  EXPECT_EQ(models[0]["init"]["config_text"], "new");
  EXPECT_EQ(models[0]["init"]["name"], "toy-line_v1 - best");
  EXPECT_EQ(models[0]["weights"], Json({{"weights_filename", run_ / "checkpoints/best.safetensors"},
                                        {"target_filename", "best.safetensors"},
                                        {"iteration", 30}}));
  EXPECT_EQ(models[1]["weights"]["iteration"], 20);
  EXPECT_NE(models[0]["id"], models[1]["id"]);
}

TEST_F(OfflineSessionTest, FindsModelsOfARunThatWasMoved) {
  fs::create_directory(run_ / "checkpoints");
  test::write_bytes(run_ / "checkpoints/best.safetensors", "weights");
  Spool spool(run_.path(), Log::silent());
  spool.task(description());
  spool.model("best", "/nowhere/run/checkpoints/best.safetensors", 1, "");
  EXPECT_EQ(task_json()["offline_output_models"][0]["weights"]["weights_filename"],
            run_ / "checkpoints/best.safetensors");
}

TEST_F(OfflineSessionTest, SendsModelsWhereTheyAreToGo) {
  ClearmlSettings nothing;
  nothing.files_host = "https://files.clear.ml";  // as without any settings
  ClearmlSettings host_alone;
  host_alone.files_host = "http://files:8081";
  ClearmlSettings with_default = with_server();
  with_default.default_output_uri = "file:///models";
  struct Case {
    std::string output_uri;
    ClearmlSettings settings;
    std::string destination;
  };
  test::write_bytes(run_ / "weights", "");
  for (const auto& [output_uri, settings, destination] :
       std::vector<Case>{{"", with_server(), "http://files:8081"},
                         {"true", with_server(), "http://files:8081"},
                         {"", host_alone, "http://files:8081"},
                         {"", with_default, "file:///models"},
                         {"", nothing, ""},
                         {"false", with_server(), ""},
                         {"false", with_default, ""},
                         {"/shared/models", with_server(), "/shared/models"},
                         {"models", with_default, fs::current_path() / "models"},
                         {"file:///shared", nothing, "file:///shared"}}) {
    fs::remove(run_ / spool_file);
    Spool spool(run_.path(), Log::silent());
    TaskDescription task = description();
    task.output_uri = output_uri;
    spool.task(task);
    spool.model("last", run_ / "weights", 1, "");
    const Json written = Json::parse(test::read_bytes(write(settings) + "/task.json"));
    EXPECT_EQ(written["offline_output_models"][0].value("output_uri", ""), destination) << output_uri;
  }
}

TEST_F(OfflineSessionTest, SkipsWhatIsDamaged) {
  {
    Spool spool(run_.path(), Log::silent());
    spool.task(description());
    spool.scalars({{"loss", 1, 0, 0.5}}, 1);
  }
  const std::string head =
      R"({"type":"training_stats_scalar","timestamp":1,"metric":"loss","variant":"loss",)";
  for (const std::string& line : std::vector<std::string>{
           "{\"type\":\"lo",
           "",
           "[]",
           "7",
           R"({"type":7})",
           R"({"type":"new"})",
           R"({"kind":"log"})",
           head + R"("value":1})",
           head + R"("iter":"2","value":1})",
           head + R"("iter":2.5,"value":1})",
           head + R"("iter":9223372036854775808,"value":1})",
           head + R"("iter":2,"value":"1"})",
           head + R"("iter":2,"value":1e999})",
           head + R"("iter":2,"value":NaN})",
           head + R"("iter":2,"value":null})",
           R"({"type":"log","level":"info","worker":"h","msg":1,"timestamp":1})",
           R"({"type":"log","level":"loud","worker":"h","msg":"m","timestamp":1})",
           R"({"type":"log","level":"info","worker":"h","msg":"m","timestamp":1.5})",
           std::string(
               "{\"type\":\"log\",\"level\":\"info\",\"worker\":\"h\",\"msg\":\"\xff\",\"timestamp\":1}"),
           R"({"type":"task","stem":"s"})",
           R"({"type":"model","slot":"best"})"})
    append(line + "\n");
  append(head + R"("iter":3,"value":1.5})" + "\n");
  append(head + R"("iter":4,"val)");  // as a kill leaves it
  EXPECT_THAT(points(), ElementsAre("loss/loss@1=0.5", "loss/loss@3=1.5"));
  EXPECT_THAT(messages(), ElementsAre());
  EXPECT_EQ(task_json()["project_name"], "A/B (#1)");
}

TEST_F(OfflineSessionTest, SaysHowManyRecordsItLacks) {
  Spool(run_.path(), Log::silent()).task(description());
  append("{\n{\n");
  Log log(0, 1);
  log.also_to(run_ / "log.txt");
  testing::internal::CaptureStderr();
  write_offline_session(run_.path(), "toy-line_v1", with_server(), log);
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("2 of the 3 records in " + run_ / spool_file));
}

TEST_F(OfflineSessionTest, IsWrittenAnewInItsPlace) {
  {
    Spool spool(run_.path(), Log::silent());
    spool.task(description());
    spool.scalars({{"loss", 1, 0, 0.5}}, 1);
  }
  const std::string first = write();
  fs::create_directories(run_ / ("clearml_offline/." + id + ".partial/left/by/a/kill"));
  test::write_bytes(first + "/of_before", "");
  {
    Spool spool(run_.path(), Log::silent());
    spool.scalars({{"loss", 2, 0, 0.25}}, 2);
  }
  EXPECT_THAT(points(), ElementsAre("loss/loss@1=0.5", "loss/loss@2=0.25"));
  EXPECT_EQ(write(), first);
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(run_ / "clearml_offline"))
    names.push_back(entry.path().filename());
  EXPECT_THAT(names, testing::UnorderedElementsAre(id, "task.json", "metrics.jsonl", "log.jsonl"));
}

TEST_F(OfflineSessionTest, NeedsASpoolThatSaysWhatTheTaskIs) {
  EXPECT_THROW(write(), InputNotFound);
  EXPECT_THROW(write_offline_session(run_ / "nowhere", "n", with_server(), Log::silent()), InputNotFound);
  append("");
  EXPECT_THROW(write(), DataError);
  TaskDescription task = description();
  task.token = "../../../../etc/";
  Spool(run_.path(), Log::silent()).task(task);
  EXPECT_THROW(write(), DataError);
  EXPECT_FALSE(fs::exists(run_ / "clearml_offline"));
}

TEST_F(OfflineSessionTest, SaysWhatCannotBeWritten) {
  Spool(run_.path(), Log::silent()).task(description());
  test::write_bytes(run_ / "clearml_offline", "a file where the folder has to be");
  EXPECT_THROW(write(), IoError);
}

}  // namespace
}  // namespace lab
