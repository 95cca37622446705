#include "lab/track/clearml_settings.h"

#include <gmock/gmock.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <thread>

#include "lab/core/error.h"
#include "lab/core/text.h"
#include "unit/temporary_folder.h"

namespace lab {
namespace {

using Environment = std::map<std::string, std::string>;

ClearmlSettings settings_of(const std::string& file, Environment environment = {}) {
  environment.emplace("HOME", "/home/u");
  return clearml_settings(
      {.environment = environment, .files = {{"clearml.conf", file}}, .host_name = "node7"});
}

std::string error_of(const std::string& file, const Environment& environment = {}) {
  try {
    settings_of(file, environment);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

struct HostCase {
  Environment environment;
  std::string file, api, web, files;
};

// What ClearML's SDK 2.1.12 gives; "" where it gives up.
const HostCase host_cases[] = {
    // clang-format off
    {{}, "", "https://api.clear.ml", "https://app.clear.ml", "https://files.clear.ml"},
    {{}, "api.api_server: http://h:8008", "http://h:8008", "http://h:8080", "http://h:8081"},
    {{}, "api.host: http://h:8008/", "http://h:8008", "http://h:8080", "http://h:8081"},
    {{}, "api.api_server: https://api.x.org", "https://api.x.org", "https://app.x.org", "https://files.x.org"},
    {{}, "api.api_server: https://api.x.org:8008", "https://api.x.org:8008", "https://app.x.org:8008", "https://app.x.org:8081"},
    {{}, "api.api_server: http://h:9000", "http://h:9000", "", ""},
    {{}, "api { api_server: http://h:9000, web_server: http://w:8080 }", "http://h:9000", "http://w:8080", "http://w:8081"},
    {{}, "api { api_server: http://h:9000, web_server: http://w }", "http://h:9000", "http://w", "http://w:8081"},
    {{}, "api { api_server: http://h:9000, web_server: https://app.x.org/ }", "http://h:9000", "https://app.x.org", "https://files.x.org"},
    {{}, "api { api_server: http://a:1, web_server: http://b:2, files_server: http://c:3/ }", "http://a:1", "http://b:2", "http://c:3"},
    {{{"CLEARML_API_HOST", "http://e:8008"}}, "api { api_server: http://a:1 }", "http://e:8008", "http://e:8080", "http://e:8081"},
    {{{"CLEARML_API_HOST", "http://e:8008"}, {"TRAINS_API_HOST", "http://old:8008"}}, "", "http://e:8008", "http://e:8080", "http://e:8081"},
    {{{"TRAINS_API_HOST", "http://old:8008"}}, "", "http://old:8008", "http://old:8080", "http://old:8081"},
    {{{"CLEARML_API_HOST", " "}, {"TRAINS_API_HOST", "http://old:8008/"}}, "", "http://old:8008", "http://old:8080", "http://old:8081"},
    {{{"CLEARML_FILES_HOST", "http://f:1/"}}, "api.api_server: http://h:8008", "http://h:8008", "http://h:8080", "http://f:1"},
    {{{"CLEARML_WEB_HOST", "https://app.w.org"}}, "api.api_server: http://h:8008", "http://h:8008", "https://app.w.org", "https://files.w.org"},
    {{}, "api { api_server: \"\", host: http://o:8008 }", "http://o:8008", "http://o:8080", "http://o:8081"},
    {{}, "api { api_server: https://h/api, web_server: https://h/web }", "https://h/api", "https://h/web", "https://h:8081/web"},
    {{}, "api.api_server: https://demoapi.demo.clear.ml", "https://demoapi.demo.clear.ml", "https://demoapp.demo.clear.ml", "https://demofiles.demo.clear.ml"},
    // clang-format on
};

TEST(ClearmlSettings, HostsAreThoseOfTheSdk) {
  for (const HostCase& c : host_cases) {
    const ClearmlSettings settings = settings_of(c.file, c.environment);
    EXPECT_EQ(settings.api_host, c.api) << c.file;
    EXPECT_EQ(settings.web_host, c.web) << c.file;
    EXPECT_EQ(settings.files_host, c.files) << c.file;
  }
}

TEST(ClearmlSettings, NothingConfiguredIsAValue) {
  const ClearmlSettings settings =
      clearml_settings({.environment = {{"HOME", "/h"}}, .files = {}, .host_name = "node7"});
  EXPECT_FALSE(settings.configured());
  EXPECT_EQ(settings.worker, "node7");
  EXPECT_EQ(settings.cache_folder, "/h/.clearml/cache");
  EXPECT_TRUE(settings.verify_tls);
}

TEST(ClearmlSettings, CredentialsOfFileVariablesAndToken) {
  const std::string file = "api.credentials.access_key=FILEKEY\napi.credentials.secret_key=FILESECRET\n";
  EXPECT_EQ(settings_of(file).access_key.reveal(), "FILEKEY");
  EXPECT_EQ(settings_of(file).secret_key.reveal(), "FILESECRET");
  const Environment both{{"CLEARML_API_ACCESS_KEY", "E"}, {"TRAINS_API_SECRET_KEY", "F"}};
  EXPECT_EQ(settings_of(file, both).access_key.reveal(), "E");
  EXPECT_EQ(settings_of(file, both).secret_key.reveal(), "F");
  EXPECT_EQ(settings_of("", {{"CLEARML_AUTH_TOKEN", " tok "}}).token.reveal(), "tok");
  EXPECT_TRUE(settings_of("", {{"TRAINS_AUTH_TOKEN", "tok"}}).token.empty());
  EXPECT_TRUE(settings_of(file).configured());
  EXPECT_FALSE(settings_of("api.credentials { access_key: \"\", secret_key: null }").configured());
}

TEST(ClearmlSettings, HalfACredentialIsAnErrorThatShowsNone) {
  EXPECT_THAT(
      error_of("api.credentials.secret_key: hidden"),
      testing::AllOf(testing::HasSubstr("clearml.conf:1:"), testing::Not(testing::HasSubstr("hidden"))));
  EXPECT_THAT(error_of("", {{"CLEARML_API_ACCESS_KEY", "hidden"}}),
              testing::AllOf(testing::HasSubstr("CLEARML_API_SECRET_KEY"),
                             testing::Not(testing::HasSubstr("hidden"))));
  EXPECT_THAT(
      error_of("", {{"CLEARML_AUTH_TOKEN", "hid\nden"}}),
      testing::AllOf(testing::HasSubstr("CLEARML_AUTH_TOKEN"), testing::Not(testing::HasSubstr("den"))));
}

TEST(ClearmlSettings, SecretsAreNotPrinted) {
  EXPECT_EQ(text(Secret("hidden")), "***");
  EXPECT_EQ(text(Secret()), "");
}

TEST(ClearmlSettings, Verification) {
  struct Case {
    std::string file, variable;
    bool verify;
    std::string ca;
  };
  for (const Case& c : {Case{"", "", true, ""},
                        {"api.verify_certificate: False", "", false, ""},
                        {"api.verify_certificate: \"no\"", "", false, ""},
                        {"api.verify_certificate: True", "off", false, ""},
                        {"api.verify_certificate: false", "1", true, ""},
                        {"api.verify_certificate: null", "", true, ""},
                        {"api.verify_certificate: \"\"", "", true, ""},
                        {"api.verify_certificate: /ca.pem", "", true, "/ca.pem"},
                        {"api.verify_certificate: false", "~/ca.pem", true, "/home/u/ca.pem"}}) {
    const ClearmlSettings settings = settings_of(c.file, {{"CLEARML_API_HOST_VERIFY_CERT", c.variable}});
    EXPECT_EQ(settings.verify_tls, c.verify) << c.file << c.variable;
    EXPECT_EQ(settings.ca_path, c.ca) << c.file << c.variable;
  }
}

TEST(ClearmlSettings, TheRest) {
  const std::string file =
      "sdk { development { default_output_uri: \"s3://b\" }\n storage.cache.default_base_dir: \"$BASE/x\" }";
  EXPECT_EQ(settings_of(file).default_output_uri, "s3://b");
  EXPECT_EQ(settings_of(file, {{"CLEARML_DEFAULT_OUTPUT_URI", "file:///o"}}).default_output_uri, "file:///o");
  EXPECT_EQ(settings_of(file, {{"BASE", "/b"}}).cache_folder, "/b/x");
  EXPECT_EQ(settings_of(file).cache_folder, "$BASE/x");
  EXPECT_EQ(settings_of(file, {{"CLEARML_CACHE_DIR", "~/c/${HOME}"}}).cache_folder, "/home/u/c//home/u");
  EXPECT_EQ(settings_of("", {{"TRAINS_WORKER_NAME", "w\r\nX: 1"}}).worker, "w  X: 1");
}

TEST(ClearmlSettings, LaterFilesGoBefore) {
  const ClearmlSettings settings = clearml_settings(
      {.environment = {},
       .files = {{"trains.conf", "api { api_server: http://a:8008, web_server: http://a:1 }"},
                 {"clearml.conf", "api.api_server: http://b:8008"}},
       .host_name = ""});
  EXPECT_EQ(settings.api_host, "http://b:8008");
  EXPECT_EQ(settings.web_host, "http://a:1");
}

TEST(ClearmlSettings, FilesLookedAt) {
  using testing::ElementsAre;
  EXPECT_THAT(clearml_files({{"HOME", "/h"}}), ElementsAre("/h/trains.conf", "/h/clearml.conf"));
  EXPECT_THAT(clearml_files({{"HOME", "/h"}, {"CLEARML_CONFIG_FILE", "~/x.conf"}}), ElementsAre("/h/x.conf"));
  EXPECT_THAT(clearml_files({{"HOME", "/h"}, {"TRAINS_CONFIG_FILE", "/y"}}), ElementsAre("/y"));
}

TEST(ClearmlSettings, WrongValuesAreNamed) {
  EXPECT_THAT(error_of("api {\n api_server: h:8008\n}"), testing::HasSubstr("clearml.conf:2:"));
  EXPECT_THAT(
      error_of("", {{"CLEARML_API_HOST", "http://name:hidden@h"}}),
      testing::AllOf(testing::HasSubstr("CLEARML_API_HOST"), testing::Not(testing::HasSubstr("hidden"))));
  EXPECT_THAT(error_of("api.api_server: [http://h]"), testing::HasSubstr("single value"));
}

// A process whose home is empty, and whose variables name no server.
class ClearmlFiles : public testing::Test {
 protected:
  ClearmlFiles() { setenv("HOME", folder_.path().c_str(), 1); }
  ~ClearmlFiles() override {
    for (const char* name : {"CLEARML_CONFIG_FILE", "CLEARML_IGNORE_MISSING_CONFIG", "CLEARML_API_ACCESS_KEY",
                             "CLEARML_API_SECRET_KEY"})
      unsetenv(name);
  }
  static void name(const std::string& path) { setenv("CLEARML_CONFIG_FILE", path.c_str(), 1); }
  static std::string error() {
    try {
      clearml_sources();
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "no error";
  }
  test::TemporaryFolder folder_;
};

TEST_F(ClearmlFiles, OneThatIsNamedHasToBeThere) {
  EXPECT_EQ(error(), "no error");
  for (const std::string& path : {folder_ / "none.conf", folder_.path()}) {
    name(path);
    EXPECT_THAT(error(), testing::AllOf(testing::HasSubstr("CLEARML_CONFIG_FILE"), testing::HasSubstr(path)));
    EXPECT_TRUE(clearml_sources(true).files.empty());  // --offline
  }
  setenv("CLEARML_IGNORE_MISSING_CONFIG", "1", 1);
  EXPECT_EQ(error(), "no error");
  setenv("CLEARML_IGNORE_MISSING_CONFIG", "no", 1);
  EXPECT_NE(error(), "no error");
  setenv("CLEARML_API_ACCESS_KEY", "key", 1);
  EXPECT_NE(error(), "no error");
  setenv("CLEARML_API_SECRET_KEY", "secret", 1);
  EXPECT_EQ(error(), "no error");
}

TEST_F(ClearmlFiles, AFolderInTheirPlaceIsAnError) {
  std::filesystem::create_directory(folder_ / "clearml.conf");
  EXPECT_THAT(error(), testing::HasSubstr(folder_ / "clearml.conf"));
  EXPECT_TRUE(clearml_sources(true).files.empty());
}

TEST_F(ClearmlFiles, APipeIsReadButNotOffline) {
  const std::string pipe = folder_ / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  name(pipe);
  EXPECT_TRUE(clearml_sources(true).files.empty());
  std::thread writer([&] { test::write_bytes(pipe, "api.api_server: http://h:8008"); });
  const ClearmlSources sources = clearml_sources();
  writer.join();
  EXPECT_EQ(clearml_settings(sources).api_host, "http://h:8008");
}

TEST(ClearmlSettings, AProxyInCapitalsCountsWhereThereIsNoOther) {
  const auto proxy = [](const Environment& environment) { return settings_of("", environment).http_proxy; };
  EXPECT_EQ(proxy({}), "");
  EXPECT_EQ(proxy({{"HTTP_PROXY", "http://p:1"}}), "http://p:1");
  EXPECT_EQ(proxy({{"HTTP_PROXY", "http://p:1"}, {"http_proxy", "http://q:1"}}), "");
  EXPECT_EQ(proxy({{"HTTP_PROXY", "http://p:1"}, {"http_proxy", ""}}), "");
  // a CGI script's HTTP_PROXY is its client's word
  EXPECT_EQ(proxy({{"HTTP_PROXY", "http://p:1"}, {"REQUEST_METHOD", "GET"}}), "");
}

}  // namespace
}  // namespace lab
