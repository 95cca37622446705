#include "lab/track/http.h"

#include <gmock/gmock.h>
#include <stdlib.h>

#include <filesystem>

#include "unit/temporary_folder.h"
#include "unit/track/scripted_server.h"

namespace lab {
namespace {

using namespace std::chrono_literals;
using test::Reply;
using test::reply;
using test::ScriptedServer;
using testing::HasSubstr;

HttpRequest ask(const std::string& url) { return {.url = url, .headers = {}, .limits = {}}; }

class Http : public testing::Test {
 protected:
  Http() { setenv("no_proxy", "127.0.0.1,localhost", 1); }
  HttpClient client_;
  test::TemporaryFolder folder_;
};

TEST_F(Http, SendsAndReceives) {
  ScriptedServer server([](const std::string&) { return reply(201, "hello", "Retry-After: 7\r\n"); });
  HttpRequest request = ask(server.url() + "/a.b");
  request.headers = {"X-One: 1"};
  const HttpAnswer answer = client_.post(request, "body");
  EXPECT_EQ(answer.failure, HttpFailure::none);
  EXPECT_EQ(answer.status, 201);
  EXPECT_EQ(answer.body, "hello");
  EXPECT_EQ(answer.retry_after, 7s);
  const std::string sent = server.requests().at(0);
  EXPECT_THAT(sent, testing::StartsWith("POST /a.b HTTP/1.1\r\n"));
  EXPECT_THAT(sent, HasSubstr("\r\nX-One: 1\r\n"));
  EXPECT_THAT(sent, testing::EndsWith("\r\n\r\nbody"));
  EXPECT_EQ(client_.post(request, "").status, 201);
  EXPECT_THAT(server.requests().at(1), HasSubstr("Content-Length: 0"));
}

TEST_F(Http, KeepsConnectionsButForRequestsThatAreSentOnce) {
  ScriptedServer server([](const std::string&) { return reply(200, "x"); });
  HttpRequest request = ask(server.url());
  for (int i = 0; i < 3; ++i) client_.get(request);
  EXPECT_EQ(server.connections(), 1u);
  request.once = true;
  client_.get(request);
  EXPECT_EQ(server.connections(), 2u);
}

TEST_F(Http, ARequestThatIsSentOnceIsNotRepeatedOnAClosedConnection) {
  int calls = 0;
  ScriptedServer server(
      [&](const std::string&) { return ++calls == 1 ? reply(200, "x") : Reply{.bytes = "", .close = true}; });
  HttpRequest request = ask(server.url());
  EXPECT_TRUE(client_.get(request).ok());
  request.once = true;
  const HttpAnswer answer = client_.post(request, "create");
  EXPECT_EQ(answer.failure, HttpFailure::dropped);
  EXPECT_TRUE(answer.may_have_arrived);
  EXPECT_EQ(server.requests().size(), 2u);
}

TEST_F(Http, RefusedCannotHaveArrived) {
  int port = 0;
  {
    port = ScriptedServer([](const std::string&) { return Reply{}; }).port();
  }
  const HttpAnswer answer = client_.post(ask(text("http://127.0.0.1:", port)), "x");
  EXPECT_EQ(answer.failure, HttpFailure::refused);
  EXPECT_FALSE(answer.may_have_arrived);
  EXPECT_FALSE(answer.problem.empty());
  EXPECT_EQ(client_.get(ask("http://no-such-host.invalid")).failure, HttpFailure::refused);
}

TEST_F(Http, LimitsOnTimeEndAHang) {
  ScriptedServer server(
      [](const std::string&) { return Reply{.bytes = "HTTP/1.1 200 OK\r\n", .hang = true}; });
  HttpRequest request = ask(server.url());
  request.limits.total = 200ms;
  HttpAnswer answer = client_.get(request);
  EXPECT_EQ(answer.failure, HttpFailure::timed_out);
  EXPECT_TRUE(answer.may_have_arrived);
  request = ask(server.url());
  request.limits.idle = 1s;
  answer = client_.get(request);
  EXPECT_EQ(answer.failure, HttpFailure::timed_out);
  EXPECT_THAT(answer.problem, HasSubstr("slow"));  // curl's word for an idle connection
}

TEST_F(Http, LostAnswersAreSeen) {
  for (const std::string bytes : {"", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", "HTTP/1.1 200",
                                  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n"}) {
    ScriptedServer server([&](const std::string&) { return Reply{.bytes = bytes, .close = true}; });
    EXPECT_NE(client_.get(ask(server.url())).ok(), true) << bytes;
    EXPECT_EQ(client_.get(ask(server.url())).failure, HttpFailure::dropped) << bytes;
  }
}

TEST_F(Http, RedirectionsAreAnswers) {
  ScriptedServer other([](const std::string&) { return reply(200, "stolen"); });
  ScriptedServer server(
      [&](const std::string&) { return reply(302, "", "Location: " + other.url() + "/x\r\n"); });
  HttpRequest request = ask(server.url());
  request.headers = {"Authorization: Bearer hidden"};
  const HttpAnswer answer = client_.get(request);
  EXPECT_EQ(answer.status, 302);
  EXPECT_EQ(answer.location, other.url() + "/x");
  EXPECT_TRUE(other.requests().empty());
}

TEST_F(Http, LongAnswersAreCutOff) {
  ScriptedServer server([](const std::string&) { return reply(200, std::string(1001, 'x')); });
  HttpRequest request = ask(server.url());
  request.limits.answer_bytes = 1001;
  EXPECT_TRUE(client_.get(request).ok());
  request.limits.answer_bytes = 1000;
  EXPECT_EQ(client_.get(request).failure, HttpFailure::too_large);
  EXPECT_EQ(client_.download(request, folder_ / "x").failure, HttpFailure::too_large);
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

// "the body of an answer", and 1001 times "x", as gzip leaves them.
const std::string_view gzipped(
    "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x2b\xc9\x48\x55\x48\xca\x4f\xa9\x54\xc8\x4f\x53\x48"
    "\xcc\x03\xa2\xe2\xf2\xd4\x22\x00\x4e\x61\xf9\x69\x15\x00\x00\x00",
    39);
const std::string_view gzipped_1001(
    "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xab\xa8\x18\x05\xa3\x60\x14\x0c\x7b\x00\x00\x07\x10\x8e"
    "\xc5\xe9\x03\x00\x00",
    29);

TEST_F(Http, WhatIsCompressedUnaskedIsDecoded) {
  ScriptedServer server([](const std::string& request) {
    const bool is_long = request.starts_with("GET /long");
    Reply out = reply(200, std::string(is_long ? gzipped_1001 : gzipped), "Content-Encoding: gzip\r\n");
    if (request.starts_with("GET /torn"))
      out = {.bytes = out.bytes.substr(0, out.bytes.size() - 9), .close = true};
    return out;
  });
  EXPECT_EQ(client_.get(ask(server.url())).body, "the body of an answer");
  const std::string path = folder_ / "file";
  EXPECT_EQ(client_.download(ask(server.url() + "/torn"), path).failure, HttpFailure::dropped);
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_TRUE(client_.download(ask(server.url()), path).ok());
  EXPECT_EQ(test::read_bytes(path), "the body of an answer");
  HttpRequest request = ask(server.url() + "/long");
  request.limits.answer_bytes = 1001;
  EXPECT_TRUE(client_.get(request).ok());
  request.limits.answer_bytes = 1000;
  EXPECT_EQ(client_.get(request).failure, HttpFailure::too_large);
  EXPECT_EQ(client_.download(request, folder_ / "long").failure, HttpFailure::too_large);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "long"));
}

TEST_F(Http, AProxyHandedInIsForHttpAndAsNoProxySays) {
  ScriptedServer proxy([](const std::string&) { return reply(200, "proxy"); });
  ScriptedServer other([](const std::string&) { return reply(200, "other"); });
  HttpClient client({.http_proxy = proxy.url()});
  const auto said = [&](const std::string& url) { return client.get(ask(url)).body; };
  EXPECT_EQ(said("http://no-such-host.invalid/"), "proxy");
  EXPECT_EQ(said(other.url() + "/"), "other");  // as no_proxy says
  EXPECT_EQ(said("https://no-such-host.invalid/"), "");
  EXPECT_EQ(proxy.requests().size(), 1u);
}

TEST_F(Http, AnotherThreadCallsOff) {
  ScriptedServer server([](const std::string&) { return Reply{.bytes = "", .hang = true}; });
  std::thread other([&] {
    while (server.requests().empty()) std::this_thread::sleep_for(1ms);
    std::this_thread::sleep_for(500ms);  // until no timer of a connection's begin wakes the client by itself
    client_.cancel();
  });
  HttpRequest request = ask(server.url());
  request.limits = {.connect = 1h, .idle = 0s, .total = 1h};  // nothing else would end it
  EXPECT_EQ(client_.get(request).failure, HttpFailure::cancelled);
  other.join();
  EXPECT_EQ(client_.get(ask(server.url())).failure, HttpFailure::cancelled);
  EXPECT_EQ(server.requests().size(), 1u);
}

TEST_F(Http, OnlyHttpWithoutNamesInIt) {
  for (const char* url : {"ftp://127.0.0.1/x", "file:///etc/hostname", "http://name:word@127.0.0.1:1/", ""})
    EXPECT_EQ(client_.get(ask(url)).failure, HttpFailure::bad_url) << url;
}

TEST_F(Http, DownloadsInFullOrNotAtAll) {
  const std::string path = folder_ / "file";
  test::write_bytes(path, "old");
  ScriptedServer server([&](const std::string& request) {
    if (request.starts_with("GET /missing")) return reply(404, "not here");
    if (request.starts_with("GET /torn"))
      return Reply{.bytes = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", .close = true};
    return reply(200, "new\0bytes");
  });
  const HttpAnswer missing = client_.download(ask(server.url() + "/missing"), path);
  EXPECT_EQ(missing.status, 404);
  EXPECT_EQ(missing.body, "not here");
  EXPECT_EQ(client_.download(ask(server.url() + "/torn"), path).failure, HttpFailure::dropped);
  EXPECT_EQ(test::read_bytes(path), "old");
  EXPECT_TRUE(client_.download(ask(server.url() + "/there"), path).ok());
  EXPECT_EQ(test::read_bytes(path), "new");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_.path()), {}), 1);
  const HttpAnswer nowhere = client_.download(ask(server.url() + "/there"), folder_ / "no/such/file");
  EXPECT_EQ(nowhere.failure, HttpFailure::file);
  EXPECT_THAT(nowhere.problem, HasSubstr("No such file"));
}

TEST_F(Http, UploadsOneNamedPart) {
  test::write_bytes(folder_ / "w", "weights");
  ScriptedServer server([](const std::string&) { return reply(200, "[]"); });
  EXPECT_TRUE(client_.upload(ask(server.url() + "/"), "/p/a%23b.pt", folder_ / "w").ok());
  const std::string sent = server.requests().at(0);
  EXPECT_THAT(sent, testing::StartsWith("POST / HTTP/1.1\r\n"));
  EXPECT_THAT(sent, HasSubstr("Content-Type: multipart/form-data; boundary="));
  EXPECT_THAT(sent,
              HasSubstr("Content-Disposition: form-data; name=\"/p/a%23b.pt\"; filename=\"/p/a%23b.pt\""));
  EXPECT_THAT(sent, HasSubstr("\r\n\r\nweights\r\n"));
  EXPECT_EQ(client_.upload(ask(server.url()), "x", folder_ / "absent").failure, HttpFailure::file);
}

TEST_F(Http, ProxyOfTheEnvironment) {
  ScriptedServer proxy([](const std::string&) { return reply(200, "by proxy"); });
  setenv("http_proxy", proxy.url().c_str(), 1);
  const HttpAnswer answer = client_.get(ask("http://somewhere.invalid/x"));
  unsetenv("http_proxy");
  EXPECT_EQ(answer.body, "by proxy");
  EXPECT_THAT(proxy.requests().at(0), testing::StartsWith("GET http://somewhere.invalid/x "));
}

}  // namespace
}  // namespace lab
