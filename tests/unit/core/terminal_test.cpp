#include "core/terminal.h"

#include <gtest/gtest.h>

namespace lab::detail {
namespace {

std::string words(const std::vector<std::string>& list) {
  std::string out;
  for (const auto& word : list) out += word + '\0';
  return out;
}

TEST(Terminal, IsSeenBehindALauncherThatChangesNothing) {
  const std::string plain = words({"mpirun", "-np", "2", "lab_train", "a.toml"});
  EXPECT_TRUE(shows_on_terminal("mpirun", plain, "/dev/pts/3"));
  EXPECT_TRUE(shows_on_terminal("orterun", plain, "/dev/tty1"));
  EXPECT_FALSE(shows_on_terminal("mpirun", plain, "/tmp/log"));
  EXPECT_FALSE(shows_on_terminal("mpirun", plain, "pipe:[1234]"));
  EXPECT_FALSE(shows_on_terminal("mpirun", plain, ""));
  EXPECT_FALSE(shows_on_terminal("bash", plain, "/dev/pts/3"));
  for (const char* word : {"--tag-output", "-tag-output", "--timestamp-output", "--output-filename", "--xml"})
    EXPECT_FALSE(shows_on_terminal("mpirun", words({"mpirun", word, "lab_train"}), "/dev/pts/3")) << word;
  EXPECT_TRUE(shows_on_terminal("mpirun", words({"mpirun", "lab_train", "tag-output"}), "/dev/pts/3"));
}

}  // namespace
}  // namespace lab::detail
