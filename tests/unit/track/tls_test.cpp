#include <gmock/gmock.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "lab/track/http.h"
#include "unit/temporary_folder.h"

namespace lab {
namespace {

bool shell(const std::string& command) { return std::system((command + " >/dev/null 2>&1").c_str()) == 0; }

// `openssl s_server` with a certificate, on a port of the kernel's choice.
class TlsServer {
 public:
  TlsServer(const std::string& folder, const std::string& certificate, const std::string& key) {
    const std::string log = folder + "/server.log";
    unlink(log.c_str());
    child_ = fork();
    if (child_ == 0) {
      const std::string command = "exec openssl s_server -accept 127.0.0.1:0 -cert " + folder + "/" +
                                  certificate + " -key " + folder + "/" + key + " -www </dev/null >" + log +
                                  " 2>&1";
      execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
      _exit(127);
    }
    for (int i = 0; i < 1000 && port_.empty(); ++i) {
      usleep(10'000);
      const std::string said = test::read_bytes(log);
      const size_t at = said.find("ACCEPT 127.0.0.1:");
      if (at != std::string::npos && said.find('\n', at) != std::string::npos)
        port_ = said.substr(at + 17, said.find('\n', at) - at - 17);
    }
  }
  ~TlsServer() {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }
  TlsServer(const TlsServer&) = delete;
  TlsServer& operator=(const TlsServer&) = delete;

  std::string url() const { return "https://127.0.0.1:" + port_ + "/"; }

 private:
  pid_t child_ = -1;
  std::string port_;
};

class Tls : public testing::Test {
 protected:
  void SetUp() override {
    setenv("no_proxy", "127.0.0.1,localhost", 1);
    if (!shell("openssl version")) GTEST_SKIP() << "the program openssl is not there to make certificates";
    for (const char* ca : {"ca", "other"})
      ASSERT_TRUE(shell(make(ca, "ca") + " -x509 -days 2 -out " + folder_ / (std::string(ca) + ".pem")));
    ASSERT_TRUE(certificate("good", "127.0.0.1", "2"));
    ASSERT_TRUE(certificate("expired", "127.0.0.1", "-1"));
    ASSERT_TRUE(certificate("elsewhere", "127.0.0.9", "2"));
    ASSERT_TRUE(shell(make("alone", "x") + " -x509 -days 2 -addext subjectAltName=IP:127.0.0.1 -out " +
                      folder_ / "alone.pem"));
  }
  std::string make(const std::string& name, const std::string& subject) const {
    return "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=" + subject +
           " -keyout " + folder_ / (name + ".key");
  }
  bool certificate(const std::string& name, const std::string& address, const std::string& days) const {
    return shell(make(name, "x") + " -addext subjectAltName=IP:" + address + " -out " +
                 folder_ / (name + ".csr")) &&
           shell("openssl x509 -req -in " + folder_ / (name + ".csr") + " -CA " + folder_ / "ca.pem" +
                 " -CAkey " + folder_ / "ca.key" + " -CAcreateserial -copy_extensions copy -days " + days +
                 " -out " + folder_ / (name + ".pem"));
  }
  HttpAnswer get(const std::string& name, const HttpOptions& options) const {
    const TlsServer server(folder_.path(), name + ".pem", name + ".key");
    HttpRequest request;
    request.url = server.url();
    return HttpClient(options).get(request);
  }
  test::TemporaryFolder folder_;
};

TEST_F(Tls, OnlyServersThatCanBeTrusted) {
  const HttpOptions ours{.verify_tls = true, .ca_path = folder_ / "ca.pem"};
  EXPECT_EQ(get("good", ours).status, 200);
  for (const char* name : {"expired", "elsewhere", "alone"}) {
    const HttpAnswer answer = get(name, ours);
    EXPECT_EQ(answer.failure, HttpFailure::tls) << name;
    EXPECT_FALSE(answer.may_have_arrived) << name;
  }
  EXPECT_EQ(get("good", {.verify_tls = true, .ca_path = folder_ / "other.pem"}).failure, HttpFailure::tls);
  EXPECT_EQ(get("good", {}).failure, HttpFailure::tls);  // the system does not know our authority
  EXPECT_EQ(get("good", {.verify_tls = true, .ca_path = folder_ / "absent.pem"}).failure, HttpFailure::tls);
}

TEST_F(Tls, AllServersWhereTheSettingsSaySo) {
  for (const char* name : {"expired", "elsewhere", "alone"})
    EXPECT_EQ(get(name, {.verify_tls = false, .ca_path = ""}).status, 200) << name;
}

}  // namespace
}  // namespace lab
