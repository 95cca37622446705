#include "lab/track/clearml_fetch.h"

#include <gmock/gmock.h>
#include <stdlib.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "lab/core/error.h"
#include "track/model_cache.h"
#include "unit/temporary_folder.h"
#include "unit/track/scripted_server.h"

namespace lab {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using namespace std::string_view_literals;
using Json = nlohmann::json;
using test::read_bytes;
using test::Reply;
using test::reply;
using test::ScriptedServer;
using test::write_bytes;
using testing::HasSubstr;

const std::string id = "0123456789abcdef0123456789abcdef";

std::string envelope(int code, int subcode, const Json& data = Json::object()) {
  return Json{{"meta", {{"result_code", code}, {"result_subcode", subcode}, {"result_msg", "as asked"}}},
              {"data", data}}
      .dump();
}

// One task with one model, and the files: what they are is the test's to change.
struct Server {
  std::string task_name = "mnist-mnist_v3", slot = "last", uri, last_update = "monday", body = "weights";
  Json metadata = Json::object();
  std::string broken;  // an action that is answered by `status`
  int status = 503;
  bool down = false;
  int downloads = 0, others = 0;
  ScriptedServer server{[this](const std::string& request) { return answer(request); }};

  Server() { uri = server.url() + "/project/models/last.safetensors"; }
  ClearmlSettings settings() {
    ClearmlSettings out;
    out.api_host = out.files_host = server.url();
    out.access_key = Secret("KEY1");
    out.secret_key = Secret("SECRET1");
    return out;
  }

 private:
  Reply answer(const std::string& request) {
    const std::string line = request.substr(0, request.find('\r'));
    if (down) return {.bytes = "", .close = true};
    if (!broken.empty() && line.find(broken) != std::string::npos) return reply(status, envelope(status, 1));
    if (line.starts_with("POST /auth.login")) return reply(200, envelope(200, 0, {{"token", "a.b.c"}}));
    if (line.find("tasks.get_by_id") != std::string::npos) {
      const bool known = request.find(id) != std::string::npos;
      Json slots = {{{"name", "best"}, {"model", "m0"}}, {{"name", slot}, {"model", "m1"}}};
      for (int i = 0; i < others; ++i) slots.push_back({{"name", "x" + std::to_string(i)}, {"model", "m2"}});
      const Json task = {{"id", id}, {"name", task_name}, {"models", {{"output", slots}}}};
      return known ? reply(200, envelope(200, 0, {{"task", task}})) : reply(400, envelope(400, 101));
    }
    if (line.find("models.get_by_id") != std::string::npos)
      return reply(
          200,
          envelope(200, 0,
                   {{"model",
                     {{"id", "m1"}, {"uri", uri}, {"last_update", last_update}, {"metadata", metadata}}}}));
    ++downloads;
    return line.find("missing") == std::string::npos ? reply(200, body) : reply(404, "no such file");
  }
};

class Fetch : public testing::Test {
 protected:
  Fetch() { setenv("no_proxy", "127.0.0.1,localhost", 1); }
  FetchedModel fetch(const std::string& name = "last", const std::string& task = id) {
    return fetch_model(server.settings(), {task, name}, options(), Log::silent());
  }
  FetchOptions options() const {
    FetchOptions out{.root = root};
    out.api.retry = {.first = 1ms, .most = 4ms};
    out.api.limits.connect = 500ms;
    out.answer = out.file = patience;
    return out;
  }
  // The code and message of the error.
  std::pair<ExitCode, std::string> error(const std::string& name = "last", const std::string& task = id) {
    try {
      fetch(name, task);
    } catch (const Error& e) {
      return {e.code(), e.what()};
    }
    return {ExitCode::done, ""};
  }
  Json metadata(const std::string& key, const std::string& value) const {
    return {{key, {{"key", key}, {"type", "str"}, {"value", value}}}};
  }

  std::chrono::milliseconds patience = 30s;
  test::TemporaryFolder outer;
  const std::string root = outer / "artifacts";
  const std::string place = root + "/mnist-mnist_v3-" + id + "/train/model_weights/";
  Server server;
};

TEST(ModelName, AsTheCommandLineHasIt) {
  EXPECT_EQ(model_in("weights.safetensors"), std::nullopt);
  EXPECT_EQ(model_in("task.ckpt"), std::nullopt);
  EXPECT_EQ(model_in("task:abc")->name, "last");
  EXPECT_EQ(model_in("task:abc/best")->task_id, "abc");
  EXPECT_EQ(model_in("task:abc/a/b")->name, "a/b");
  EXPECT_THROW(model_in("task:"), UsageError);
  EXPECT_THROW(model_in("task:/best"), UsageError);
  EXPECT_THROW(model_in("task:abc/"), UsageError);
}

TEST_F(Fetch, DownloadsOnceAndKeeps) {
  const FetchedModel found = fetch();
  EXPECT_EQ(found.path, place + "last.safetensors");
  EXPECT_EQ(found.task_name, "mnist-mnist_v3");
  EXPECT_EQ(found.task_id, id);
  EXPECT_EQ(read_bytes(found.path), "weights");
  EXPECT_EQ(fetch().path, found.path);
  EXPECT_EQ(server.downloads, 1);
}

TEST_F(Fetch, FetchesAgainWhatChangedThereOrHere) {
  fetch();
  server.last_update = "tuesday";
  server.body = "newer";
  EXPECT_EQ(read_bytes(fetch().path), "newer");
  server.body = "moved";
  server.uri += "?";
  EXPECT_EQ(read_bytes(fetch().path), "moved");
  write_bytes(place + "last.safetensors", "m0ved");  // of the same size
  EXPECT_EQ(read_bytes(fetch().path), "moved");
  write_bytes(place + "last.safetensors.json", "{}");
  EXPECT_EQ(read_bytes(fetch().path), "moved");
  EXPECT_EQ(server.downloads, 5);
}

TEST_F(Fetch, WithoutTheServerWhatIsKeptIsUsed) {
  EXPECT_EQ(fetch().path, place + "last.safetensors");
  const auto change = [this](bool down, const std::string& broken) {
    server.server.change([&] { server.down = down, server.broken = broken; });
  };
  patience = 100ms;  // so that an answer may still be under way when the next begins
  change(true, "");
  EXPECT_EQ(fetch().path, place + "last.safetensors");
  EXPECT_EQ(kept_model({id, "last"}, root, "offline", Log::silent()).task_name, "mnist-mnist_v3");
  EXPECT_EQ(error("best").first, ExitCode::unavailable);
  EXPECT_THAT(error("best").second, HasSubstr("cannot be reached"));
  for (const char* action : {"tasks.get_by_id", "models.get_by_id", "auth.login"}) {
    change(false, action);
    EXPECT_EQ(fetch().path, place + "last.safetensors") << action;
  }
  write_bytes(place + "last.safetensors", "damaged");
  EXPECT_EQ(error().first, ExitCode::unavailable);
  EXPECT_THROW(kept_model({id, "last"}, root, "offline", Log::silent()), Unavailable);
  EXPECT_THROW(kept_model({"../x", "last"}, root, "offline", Log::silent()), InputNotFound);
}

TEST_F(Fetch, WhatIsForgottenStaysButIsFetchedAgain) {
  const std::string path = fetch().path;
  forget(path);
  EXPECT_EQ(read_bytes(path), "weights");
  EXPECT_THROW(kept_model({id, "last"}, root, "offline", Log::silent()), Unavailable);
  server.body = "another";
  EXPECT_EQ(read_bytes(fetch().path), "another");
  EXPECT_EQ(server.downloads, 2);
}

TEST_F(Fetch, KeptOfAnotherModelOrTaskIsNotTaken) {
  fetch();
  const std::string other = "f" + id.substr(1);
  fs::create_directories(root + "/x-" + other + "/train/model_weights");
  for (const char* file : {"last.safetensors", "last.safetensors.json"})
    fs::copy_file(place + file, root + "/x-" + other + "/train/model_weights/" + file);
  EXPECT_THROW(kept_model({other, "last"}, root, "offline", Log::silent()), Unavailable);
}

TEST_F(Fetch, SaysWhatIsNotThere) {
  auto [code, message] = error("last", "1" + id.substr(1));
  EXPECT_EQ(code, ExitCode::no_input);
  EXPECT_THAT(message, HasSubstr("no task 1" + id.substr(1)));
  std::tie(code, message) = error("lost");
  EXPECT_EQ(code, ExitCode::no_input);
  EXPECT_THAT(message, HasSubstr("no output model \"lost\"; it has \"best\", \"last\""));
  server.uri = server.server.url() + "/missing.pt";
  std::tie(code, message) = error();
  EXPECT_EQ(code, ExitCode::no_input);
  EXPECT_THAT(message, HasSubstr("/missing.pt"));
  for (const char* end : {"/uploading_file", "/failed_uploading"}) {
    server.uri = server.server.url() + end;
    EXPECT_THAT(error().second, HasSubstr("has no file"));
  }
}

TEST_F(Fetch, SaysWhoseModelIsNotThere) {
  server.status = 400;
  server.broken = "models.get_by_id";
  EXPECT_THAT(error().second, HasSubstr("there is no model \"m1\", \"last\" of the task " + id + ", for"));
  server.broken = "GET /project";
  EXPECT_THAT(error().second, HasSubstr("there is no file of the model \"last\" of the task " + id + " for"));
}

TEST_F(Fetch, OfManyModelsNamesSomeAndCountsTheRest) {
  server.others = 298;
  EXPECT_THAT(error("lost").second, HasSubstr("\"x17\" and 280 more: name one of them"));
}

TEST_F(Fetch, RightsAreAskedFor) {
  for (const int status : {401, 403})
    for (const char* action : {"auth.login", "tasks.get_by_id", "models.get_by_id", "GET /project"}) {
      server.broken = action;
      server.status = status;
      const auto [code, message] = error();
      EXPECT_EQ(code, ExitCode::bad_config) << action;
      EXPECT_THAT(message, HasSubstr("no rights")) << action;
    }
  EXPECT_THROW(fetch_model({}, {id, "last"}, options(), Log::silent()), ConfigError);
}

TEST_F(Fetch, ComparesWithWhatLabWroteBesideTheModel) {
  const std::string checksum = "06cc94573ff53c71";
  write_bytes(outer / "sample", server.body);
  EXPECT_EQ(detail::sum_of(outer / "sample"), (detail::FileSum{7, checksum}));
  write_bytes(outer / "empty", "");
  write_bytes(outer / "damaged", "weighty");
  EXPECT_EQ(detail::sum_of(outer / "empty"), (detail::FileSum{0, "2d06800538d394c2"}));
  EXPECT_EQ(detail::sum_of(outer / "absent"), std::nullopt);
  EXPECT_EQ(detail::sum_of(outer / "sample", [] { return true; }), std::nullopt);
  server.metadata = metadata("lab.size", "8");
  auto [code, message] = error();
  EXPECT_EQ(code, ExitCode::bad_data);
  EXPECT_THAT(message, HasSubstr("has 7 bytes, 8 were uploaded"));
  EXPECT_EQ(server.downloads, 3);  // it may have been about to change
  server.metadata = metadata("lab.size", "7");
  server.metadata.update(metadata("lab.xxh3", checksum));
  server.body = "weighty";
  std::tie(code, message) = error();
  EXPECT_EQ(code, ExitCode::bad_data);
  EXPECT_THAT(message, HasSubstr("checksum " + detail::sum_of(outer / "damaged")->checksum +
                                 ", what was uploaded had " + checksum));
  EXPECT_TRUE(fs::is_empty(place));
  server.body = "weights";
  EXPECT_EQ(read_bytes(fetch().path), "weights");
}

TEST_F(Fetch, CopiesFilesOfThisMachineAndLeavesThem) {
  const std::string file = outer / "my best (1).pt";
  write_bytes(file, "local");
  std::string encoded = file;
  encoded.replace(encoded.find(' '), 1, "%20");
  for (const std::string& uri : {file, "file://" + file, "file://" + encoded, "file://localhost" + file}) {
    server.uri = uri;
    for (int time = 0; time < 2; ++time) EXPECT_EQ(read_bytes(fetch().path), "local") << uri;
    EXPECT_EQ(read_bytes(file), "local");
  }
  write_bytes(file, "trained on");
  EXPECT_EQ(read_bytes(fetch().path), "trained on");
  fs::remove(file);
  EXPECT_EQ(read_bytes(fetch().path), "trained on");  // kept
  server.last_update = "tuesday";
  EXPECT_EQ(error().first, ExitCode::no_input);
  EXPECT_EQ(server.downloads, 0);
}

TEST_F(Fetch, SpeaksOfAddressesThatItDoesNotKnow) {
  for (const std::string uri :
       {"s3://bucket/last.pt", "gs://bucket/last.pt", "azure://a/b/last.pt", "ftp://h/last.pt",
        "javascript:alert(1)", "data:text/plain,x", "last.pt", "../last.pt", "file://host/x.pt",
        "HTTP://127.0.0.1/x.pt", "//127.0.0.1:1/x.pt", "file:relative.pt"}) {
    server.uri = uri;
    const auto [code, message] = error();
    EXPECT_TRUE(code == ExitCode::unavailable || code == ExitCode::no_input) << uri << " " << message;
    EXPECT_THAT(message, HasSubstr(uri));
  }
  server.uri = "";
  EXPECT_EQ(error().first, ExitCode::no_input);
  server.uri = server.server.url() + "/a\nb.pt";
  EXPECT_EQ(error().first, ExitCode::bad_data);
  server.uri = "http://user:word@" + server.server.url().substr(7) + "/last.pt";
  EXPECT_EQ(error().first, ExitCode::unavailable);
  EXPECT_EQ(server.downloads, 0);
}

TEST(ModelCache, NamesAndEndings) {
  EXPECT_EQ(detail::file_name("mnist-mnist_v3", 120), "mnist-mnist_v3");
  EXPECT_EQ(detail::file_name("epoch=1-step=10", 120), "epoch=1-step=10");
  EXPECT_EQ(detail::file_name("", 120), "_");
  EXPECT_EQ(detail::file_name("..", 120), "_.");
  EXPECT_EQ(detail::file_name("../a/b", 120), "_._a_b");
  EXPECT_EQ(detail::file_name("0123456789", 4), "0123");
  EXPECT_EQ(detail::weights_ending("http://h/a.safetensors"), "safetensors");
  EXPECT_EQ(detail::weights_ending("http://h/a.ckpt?x=/b.pt"), "ckpt");
  EXPECT_EQ(detail::weights_ending("/x/a.pth#y"), "pth");
  EXPECT_EQ(detail::weights_ending("/x/a.pt/../../b"), "bin");
  EXPECT_EQ(detail::weights_ending("/x.pt/a"), "bin");
  EXPECT_EQ(detail::weights_ending(""), "bin");
}

// --- names that want out

std::vector<std::string> listing(const std::string& folder) {
  std::vector<std::string> out;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) out.push_back(entry.path().string());
  std::ranges::sort(out);
  return out;
}

std::vector<std::string> hostile_names() {
  std::istringstream plain(
      R"(. .. ... / // /etc/passwd ~ ~/x $HOME `id` $(id) a;b a|b a&b a\b ..\..\x C:\x \\host\x a:b * ? <> " ')"
      R"( -rf --help .hidden ..hidden CON NUL ..%00 %2e%2e%2f %2e%2e/ ..%2f %252e%252e%252f ..%c0%af Größe 名前)");
  std::vector<std::string> out(std::istream_iterator<std::string>(plain), {});
  for (const std::string_view odd :
       {""sv, " "sv, "  .."sv, ".. "sv, "\n"sv, "a\nb"sv, "a\r\nb"sv, "\t"sv, "\x1b[31m"sv, "\x7f"sv, "\0"sv,
        "a\0b"sv, "..\0"sv, "\u202egnp.exe"sv, "\u2025/x"sv, "\uff0e\uff0e\uff0fx"sv})
    out.emplace_back(odd);
  for (const auto& [letter, times] : {std::pair('a', 5000), std::pair('/', 100000), std::pair('.', 300)})
    out.emplace_back(static_cast<size_t>(times), letter);
  for (const std::string up : {"../", "/../", "./../", "....//", "..//", "a/../../"})
    for (const std::string end : {"x", "../x", "../../../../x", "train/model_weights/x"})
      out.push_back(up + end);
  return out;
}

class Hostile : public Fetch {
 protected:
  Hostile() {
    fs::create_directories(root);
    write_bytes(outer / "bystander", "untouched");
    before = listing(outer.path());
  }
  // Whatever came of it, all that is new lies below the root, and no link or folder of an odd kind.
  void check(const std::string& what) {
    try {
      const std::string path = fetch(asked).path;
      EXPECT_TRUE(fs::canonical(path).string().starts_with(fs::canonical(root).string() + "/")) << what;
      EXPECT_EQ(fs::relative(path, root).string().find("../"), std::string::npos) << what;
    } catch (const Error&) {
    }
    std::vector<std::string> after = listing(outer.path());
    std::erase_if(after, [&](const std::string& file) { return file.starts_with(root + "/"); });
    EXPECT_EQ(after, before) << quoted(what);
    EXPECT_EQ(read_bytes(outer / "bystander"), "untouched") << quoted(what);
    EXPECT_EQ(std::distance(fs::directory_iterator(fs::path(root).parent_path()), {}), 2) << quoted(what);
    ++tried;
    fs::remove_all(root);
    fs::create_directories(root);
  }
  std::string asked = "last";
  std::vector<std::string> before;
  int tried = 0;
};

TEST_F(Hostile, NamesOfTasksAndModels) {
  for (const std::string& name : hostile_names()) {
    server.task_name = name;
    check("task " + name);
  }
  server.task_name = "plain";
  for (const std::string& name : hostile_names()) {
    server.slot = asked = name;
    check("model " + name);
  }
  EXPECT_GE(tried, 150);
}

TEST_F(Hostile, Addresses) {
  const std::string host = server.server.url();
  for (const std::string& name : hostile_names()) {
    server.uri = host + "/" + name;
    check(server.uri.substr(0, 200));
    server.uri = host + "/x." + name;
    check(server.uri.substr(0, 200));
    server.uri = "file://" + name;
    check(server.uri.substr(0, 200));
    server.uri = name;
    check(server.uri.substr(0, 200));
  }
  for (const std::string uri : {"file:///dev/zero", "/dev/zero", "/proc/self/mem", "file:///", "/", "/tmp"}) {
    server.uri = uri;
    check(uri);
  }
  EXPECT_GE(tried, 300);
}

TEST_F(Hostile, AnswersOfAnyForm) {
  for (const char* id_text : {"", "..", "../../x", "a/b", "a b", "x\n", "%2e%2e"}) {
    try {
      fetch("last", id_text);
      ADD_FAILURE() << id_text;
    } catch (const InputNotFound&) {
    }
  }
  EXPECT_THROW(fetch("last", std::string(65, 'a')), InputNotFound);
  server.metadata = {{"lab.size", 7}, {"lab.xxh3", nullptr}};
  check("metadata of other types");
  server.metadata = Json::array({1, "x"});
  check("metadata as a list");
}

TEST_F(Hostile, TwoNamesNeverShareAFile) {
  std::vector<std::string> paths;
  for (const std::string& name : hostile_names()) {
    server.slot = name;
    paths.push_back(fetch(name).path);
  }
  std::ranges::sort(paths);
  EXPECT_EQ(std::ranges::adjacent_find(paths), paths.end());
}

}  // namespace
}  // namespace lab
