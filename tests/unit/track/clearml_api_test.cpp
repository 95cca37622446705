#include "lab/track/clearml_api.h"

#include <gmock/gmock.h>
#include <stdlib.h>

#include <atomic>
#include <ctime>

#include "lab/core/error.h"
#include "track/login.h"
#include "unit/temporary_folder.h"
#include "unit/track/scripted_server.h"

namespace lab {
namespace {

using namespace std::chrono_literals;
using detail::base64;
using test::Reply;
using test::reply;
using test::ScriptedServer;
using testing::HasSubstr;
using testing::Not;

std::string envelope(int code, int subcode, const std::string& message, const std::string& data = "{}") {
  return text(R"({"meta":{"result_code":)", code, R"(,"result_subcode":)", subcode, R"(,"result_msg":)",
              quoted(message), R"(},"data":)", data, "}");
}

// A token whose times are these; the server's side only looks whether it is the newest.
std::string token(const std::string& claims, int number) {
  std::string middle = base64(claims);
  for (char& c : middle) c = c == '+' ? '-' : c == '/' ? '_' : c;
  middle.erase(std::min(middle.find('='), middle.size()));
  return text("head.", middle, ".sign", number);
}

// The header that authorizes a request.
std::string header_of(const std::string& request) {
  const size_t at = std::min(request.find("Authorization: "), request.size());
  return request.substr(at, request.find('\r', at) - at);
}

// An API server: logs in with key "KEY1" and secret "SECRET1", then answers as `answer` says, which may be
// changed from call to call.
class FakeServer {
 public:
  using Answer = std::function<Reply(const std::string& request, int call)>;
  explicit FakeServer(Answer answer, std::string claims = text(R"({"exp":)", std::time(nullptr) + 10000, "}"))
      : answer_(std::move(answer)),
        claims_(std::move(claims)),
        server_([this](const std::string& request) { return handle(request); }) {}

  ClearmlSettings settings() const {
    ClearmlSettings out;
    out.api_host = out.files_host = server_.url();
    out.access_key = Secret("KEY1");
    out.secret_key = Secret("SECRET1");
    out.worker = "worker:1";
    return out;
  }
  std::string url() const { return server_.url(); }
  std::vector<std::string> requests() { return server_.requests(); }
  size_t calls(const std::string& part) {
    size_t count = 0;
    for (const std::string& request : requests())
      count += request.substr(0, request.find('\n')).find(part) != std::string::npos;
    return count;
  }

  std::atomic<int> revoked = 0;  // tokens up to this number

 private:
  Reply handle(const std::string& request) {
    if (request.starts_with("POST /auth.login")) {
      const bool known =
          request.find("Authorization: Basic " + base64("KEY1:SECRET1")) != std::string::npos ||
          request.find("Authorization: Bearer ready") != std::string::npos;
      if (!known)
        return reply(401,
                     envelope(401, 22, "Unauthorized (invalid credentials) SECRET1 " + header_of(request)));
      return reply(200, envelope(200, 0, "OK", text(R"({"token":")", token(claims_, ++logins_), "\"}")));
    }
    const size_t at = request.find(".sign");
    if (at < request.find("\r\n\r\n") && std::stoi(request.substr(at + 5)) <= revoked)
      return reply(401, envelope(401, 30, "token revoked"));
    return answer_(request, ++calls_);
  }

  Answer answer_;
  std::string claims_;
  int logins_ = 0, calls_ = 0;
  ScriptedServer server_;
};

Reply good() { return reply(200, envelope(200, 0, "OK", R"({"id":"abc"})")); }

ApiOptions quick() {
  ApiOptions options;
  options.retry = {.first = 1ms, .most = 4ms};
  return options;
}

class Api : public testing::Test {
 protected:
  Api() { setenv("no_proxy", "127.0.0.1,localhost", 1); }
};

TEST_F(Api, LogsInOnceAndCalls) {
  FakeServer server([](const std::string&, int) { return good(); });
  ClearmlApi api(server.settings(), quick());
  const ApiAnswer answer = api.call("tasks.get_all", R"({"id":["x"]})");
  ASSERT_TRUE(answer.ok()) << answer.error->message;
  EXPECT_EQ(answer.data, R"({"id":"abc"})");
  EXPECT_TRUE(api.call("tasks.ping", "{}").ok());
  EXPECT_EQ(server.requests().size(), 3u);
  const std::string call = server.requests().at(1);
  EXPECT_THAT(call, testing::StartsWith("POST /v2.23/tasks.get_all HTTP/1.1\r\n"));
  EXPECT_THAT(call, HasSubstr("\r\nContent-Type: application/json\r\n"));
  EXPECT_THAT(call, HasSubstr("\r\nX-ClearML-Worker: worker:1\r\n"));
  EXPECT_THAT(call, HasSubstr(".sign1\r\n"));
  EXPECT_THAT(call, Not(HasSubstr("Basic")));
  EXPECT_THAT(call, testing::EndsWith("\r\n\r\n{\"id\":[\"x\"]}"));
}

TEST_F(Api, WrongKeysAreFinalAndNotShown) {
  FakeServer server([](const std::string&, int) { return good(); });
  ClearmlSettings settings = server.settings();
  settings.access_key = Secret("OTHER");
  ClearmlApi api(settings, quick());
  const ApiAnswer answer = api.call("tasks.ping", "{}");
  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(answer.error->result_code, 401);
  EXPECT_EQ(answer.error->result_subcode, 22);
  EXPECT_FALSE(answer.error->temporary);
  EXPECT_THAT(answer.error->message, HasSubstr("invalid credentials"));
  EXPECT_THAT(answer.error->message, Not(HasSubstr("SECRET1")));
  EXPECT_THAT(answer.error->message, HasSubstr("Authorization: Basic ***"));  // as the server says it back
  EXPECT_EQ(server.requests().size(), 1u);
}

TEST_F(Api, ARefusedTokenIsRenewedOnceWithANewHeader) {
  FakeServer server([](const std::string&, int) { return good(); });
  ClearmlApi api(server.settings(), quick());
  EXPECT_TRUE(api.call("tasks.ping", "{}").ok());
  server.revoked = 1;
  EXPECT_TRUE(api.call("tasks.create", "{}").ok());
  EXPECT_EQ(server.calls("auth.login"), 2u);
  EXPECT_THAT(server.requests().back(), HasSubstr(".sign2\r\n"));
  server.revoked = 1000;
  const ApiAnswer answer = api.call("tasks.ping", "{}");
  EXPECT_EQ(answer.error.value().result_subcode, 30);
  EXPECT_EQ(server.calls("auth.login"), 3u);
}

TEST_F(Api, ATokenIsRenewedBeforeItsEnd) {
  FakeServer server([](const std::string&, int) { return good(); }, R"({"iat":1000,"exp":1000})");
  ClearmlApi api(server.settings(), quick());
  api.call("tasks.ping", "{}");
  api.call("tasks.ping", "{}");
  EXPECT_EQ(server.calls("auth.login"), 2u);
}

TEST_F(Api, AReadyTokenNeedsNoLoginUntilItIsRefused) {
  FakeServer server([](const std::string&, int) { return good(); });
  ClearmlSettings settings = server.settings();
  settings.access_key = settings.secret_key = {};
  settings.token = Secret("ready.token.sign1");
  ClearmlApi api(settings, quick());
  EXPECT_TRUE(api.call("tasks.ping", "{}").ok());
  EXPECT_EQ(server.calls("auth.login"), 0u);
  EXPECT_THROW(ClearmlApi(ClearmlSettings{}), ConfigError);
}

TEST_F(Api, TemporaryFailuresAreTriedAgain) {
  const std::vector<Reply> failures{
      reply(500, "oops"),
      reply(502, "<html>"),
      reply(503, envelope(503, 0, "maintenance")),
      reply(429, "slow down"),
      reply(200, "<html>a proxy's page</html>"),
      Reply{.bytes = "", .close = true},
      Reply{.bytes = "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{\"meta\"", .close = true}};
  for (const Reply& failure : failures) {
    FakeServer server([&](const std::string&, int call) { return call <= 2 ? failure : good(); });
    ClearmlApi api(server.settings(), quick());
    EXPECT_TRUE(api.call("tasks.edit", "{}").ok()) << failure.bytes;
    EXPECT_GE(server.calls("tasks.edit"), 3u) << failure.bytes;
  }
}

TEST_F(Api, FinalFailuresAreNot) {
  for (const int code : {400, 403, 404, 413, 415, 301}) {
    FakeServer server([&](const std::string&, int) {
      return reply(code, code == 400 ? envelope(400, 110, "status") : "text");
    });
    ClearmlApi api(server.settings(), quick());
    const ApiAnswer answer = api.call("tasks.edit", "{}");
    ASSERT_FALSE(answer.ok());
    EXPECT_EQ(answer.error->http_code, code);
    EXPECT_EQ(answer.error->result_subcode, code == 400 ? 110 : 0);
    EXPECT_EQ(server.calls("tasks.edit"), 1u);
  }
}

TEST_F(Api, WhatMayHaveWorkedIsNotDoneTwice) {
  for (const Reply& failure : {reply(502, "<html>"), Reply{.bytes = "", .close = true}}) {
    FakeServer server([&](const std::string&, int call) { return call == 1 ? failure : good(); });
    ClearmlApi api(server.settings(), quick());
    const ApiAnswer answer = api.call("tasks.create", "{}");
    ASSERT_FALSE(answer.ok());
    EXPECT_TRUE(answer.error->may_have_worked);
    EXPECT_EQ(server.calls("tasks.create"), 1u);
  }
  FakeServer busy([&](const std::string&, int call) { return call == 1 ? reply(429, "") : good(); });
  EXPECT_TRUE(ClearmlApi(busy.settings(), quick()).call("models.create", "{}").ok());
}

TEST_F(Api, TheDeadlineEndsTries) {
  FakeServer server([&](const std::string&, int) { return reply(500, ""); });
  ClearmlApi api(server.settings(), quick());
  const ApiAnswer answer = api.call("tasks.edit", "{}", {.deadline = 60ms});
  EXPECT_EQ(answer.error.value().http_code == 500 || answer.error->failure == HttpFailure::timed_out, true);
  FakeServer slow([&](const std::string&, int) { return Reply{.bytes = "", .hang = true}; });
  EXPECT_EQ(ClearmlApi(slow.settings(), quick())
                .call("tasks.edit", "{}", {.deadline = 100ms})
                .error.value()
                .failure,
            HttpFailure::timed_out);
}

TEST_F(Api, CancelWakesAWait) {
  FakeServer server([&](const std::string&, int) { return reply(503, "", "Retry-After: 3000\r\n"); });
  ClearmlApi api(server.settings(), quick());
  std::thread other([&] {
    while (server.calls("tasks.edit") == 0) std::this_thread::sleep_for(1ms);
    api.cancel();
  });
  EXPECT_FALSE(api.call("tasks.edit", "{}", {.deadline = 3600s}).ok());
  other.join();
}

TEST_F(Api, BatchesAreSplitBySize) {
  std::vector<std::string> bodies;
  FakeServer server([&](const std::string& request, int call) {
    bodies.push_back(request.substr(request.find("\r\n\r\n") + 4));
    EXPECT_THAT(request, HasSubstr("\r\nContent-Type: application/json-lines\r\n"));
    if (call == 2)
      return reply(200, envelope(200, 0, "OK", R"({"added":0,"errors":1,"errors_info":{"bad":1}})"));
    return reply(200, envelope(200, 0, "OK", R"({"added":2,"errors":0})"));
  });
  ApiOptions options = quick();
  options.body_bytes = 10;
  ClearmlApi api(server.settings(), options);
  const BatchAnswer answer =
      api.add_batch(std::vector<std::string>{"1234", "5678", "abcd", "much too long", "efgh"});
  EXPECT_TRUE(answer.ok());
  EXPECT_EQ(server.requests().size(), 4u);  // a login, three batches
  EXPECT_THAT(bodies, testing::ElementsAre("1234\n5678\n", "abcd\n", "efgh\n"));
  EXPECT_EQ(answer.taken, 5u);
  EXPECT_EQ(answer.refused, 2);
  EXPECT_FALSE(api.call("tasks.edit", "{\"x\":123456}").ok());
}

TEST_F(Api, ABatchSaysHowFarItCame) {
  FakeServer server([&](const std::string&, int call) {
    return call == 1 ? good() : reply(400, envelope(400, 131, "none added"));
  });
  ApiOptions options = quick();
  options.body_bytes = 5;
  const BatchAnswer answer =
      ClearmlApi(server.settings(), options).add_batch(std::vector<std::string>{"1234", "5678"});
  EXPECT_EQ(answer.taken, 1u);
  EXPECT_EQ(answer.error.value().result_subcode, 131);
}

TEST_F(Api, UploadsAreChecked) {
  test::TemporaryFolder folder;
  test::write_bytes(folder / "w", "weights");
  FakeServer server(
      [&](const std::string&, int call) { return reply(200, call == 1 ? R"(["/p/w.pt"])" : "[]"); });
  ClearmlApi api(server.settings(), quick());
  EXPECT_TRUE(api.upload("/p/w.pt", folder / "w").ok());
  EXPECT_THAT(server.requests().back(), HasSubstr("\r\nAuthorization: Bearer "));
  EXPECT_FALSE(api.upload("/p/w.pt", folder / "w", {.deadline = 50ms}).ok());
}

TEST_F(Api, TheTokenGoesToTheFileServerOnly) {
  test::TemporaryFolder folder;
  ScriptedServer stranger([](const std::string&) { return reply(200, "theirs"); });
  FakeServer server([](const std::string&, int) { return reply(200, "ours"); });
  ClearmlApi api(server.settings(), quick());
  EXPECT_TRUE(api.download(server.url() + "/a", folder / "ours").ok());
  EXPECT_THAT(server.requests().back(), HasSubstr("Authorization: Bearer "));
  EXPECT_TRUE(api.download(stranger.url() + "/a", folder / "theirs").ok());
  EXPECT_THAT(stranger.requests().at(0), Not(HasSubstr("Authorization")));
  EXPECT_EQ(test::read_bytes(folder / "theirs"), "theirs");
}

TEST_F(Api, HostileAnswersAreErrors) {
  for (const std::string& body :
       {std::string(1'000'000, '['), std::string("\xff\xfe"), std::string("[]"), std::string("null"),
        std::string(R"({"meta":[],"data":1})"), std::string(R"({"meta":{"result_code":"200"}})")}) {
    FakeServer server([&](const std::string&, int) { return reply(200, body); });
    EXPECT_FALSE(ClearmlApi(server.settings(), quick()).call("tasks.create", "{}").ok());
  }
}

TEST(Retry, Decisions) {
  struct Case {
    HttpFailure failure;
    int http, result;
    bool arrived, temporary, unsure;
  };
  using enum HttpFailure;
  for (const Case& c : {Case{refused, 0, 0, false, true, false}, {timed_out, 0, 0, true, true, true},
                        {timed_out, 0, 0, false, true, false},   {dropped, 0, 0, true, true, true},
                        {tls, 0, 0, false, false, false},        {cancelled, 0, 0, true, false, true},
                        {too_large, 200, 0, true, false, true},  {bad_url, 0, 0, false, false, false},
                        {none, 400, 400, true, false, false},    {none, 401, 401, true, false, false},
                        {none, 404, 404, true, false, false},    {none, 404, 0, true, false, false},
                        {none, 415, 0, true, false, false},      {none, 302, 0, true, false, false},
                        {none, 408, 0, true, true, true},        {none, 429, 0, true, true, false},
                        {none, 500, 500, true, true, true},      {none, 502, 0, true, true, true},
                        {none, 503, 503, true, true, false},     {none, 504, 0, true, true, true},
                        {none, 200, 0, true, true, true},        {none, 200, 400, true, false, false}}) {
    ApiError error{.failure = c.failure, .http_code = c.http, .result_code = c.result};
    judge(error, c.arrived);
    EXPECT_EQ(error.temporary, c.temporary) << name_of(c.failure) << " " << c.http;
    EXPECT_EQ(error.may_have_worked, c.unsure) << name_of(c.failure) << " " << c.http;
  }
  EXPECT_FALSE(repeats_safely("tasks.create"));
  EXPECT_FALSE(repeats_safely("models.create"));
  for (const char* action : {"tasks.edit", "events.add_batch", "projects.create", "models.set_ready"})
    EXPECT_TRUE(repeats_safely(action));
}

TEST(Retry, Backoff) {
  const RetryPolicy policy{.first = 1000ms, .most = 120'000ms};
  const int64_t expected[] = {1000, 2000, 4000, 8000, 16000, 32000, 64000, 120000, 120000};
  for (int i = 0; i < 9; ++i) {
    EXPECT_EQ(backoff(policy, i, 0.0).count(), expected[i]);
    EXPECT_EQ(backoff(policy, i, 0.5).count(), expected[i] * 3 / 4);
    EXPECT_GE(backoff(policy, i, 0.999999).count(), expected[i] / 2);
  }
  EXPECT_EQ(backoff(policy, 1'000'000, 0.0), 120'000ms);
}

TEST(Login, Texts) {
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(base64("f"), "Zg==");
  EXPECT_EQ(base64("fo"), "Zm8=");
  EXPECT_EQ(base64("foobar"), "Zm9vYmFy");
  EXPECT_EQ(base64("\xff\xfe\xfd"), "//79");
  EXPECT_EQ(detail::from_base64url("__79"), "\xff\xfe\xfd");
  EXPECT_EQ(detail::from_base64url("Zm8"), "fo");
  EXPECT_EQ(detail::from_base64url("Zm8="), std::nullopt);
  EXPECT_EQ(detail::from_base64url("//79"), std::nullopt);
}

TEST(Login, Renewal) {
  EXPECT_EQ(detail::renewal_after(token(R"({"exp":11000})", 1), 1000), 9640s);
  EXPECT_EQ(detail::renewal_after(token(R"({"exp":1100})", 1), 1000), 50s);
  EXPECT_EQ(detail::renewal_after(token(R"({"exp":500})", 1), 1000), 0s);
  EXPECT_EQ(detail::renewal_after(token(R"({"iat":1000,"exp":11000})", 1), 10'999), 9640s);  // clocks differ
  for (const char* other : {"", "a.b", "a.b.c", "no token"})
    EXPECT_EQ(detail::renewal_after(other, 0), std::nullopt);
  EXPECT_EQ(detail::renewal_after(token(R"({"exp":"x"})", 1), 0), std::nullopt);
  EXPECT_EQ(detail::renewal_after(token("[]", 1), 0), std::nullopt);
}

}  // namespace
}  // namespace lab
