#include "lab/core/process.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "lab/core/error.h"

namespace {

TEST(Process, RunsAProgramAndBringsBackWhatItSaid) {
  const auto result = lab::run_program({"/bin/sh", "-c", "echo out; echo err >&2; exit 7"});
  EXPECT_EQ(result.status, 7);
  EXPECT_EQ(result.output, "out\n");
  EXPECT_EQ(result.error, "err\n");
  EXPECT_EQ(lab::run_program({"/bin/sh", "-c", "kill -SEGV $$"}).status, 128 + 11);
  EXPECT_EQ(
      lab::run_program({"/bin/sh", "-c", "yes | head -c 300000; yes | head -c 300000 >&2"}).output.size(),
      300'000u);
  EXPECT_THROW(lab::run_program({"/no/such/program"}), lab::IoError);
}

bool takes_denormals_for_zeros() {
  volatile float denormal = 1e-39F, normal = 1.5e-38F, half = 0.5F;
  return denormal * 1.0F == 0.0F && normal * half == 0.0F;
}

TEST(Process, DenormalsAreZerosForAThreadAndThoseItStarts) {
#if !defined(__x86_64__)
  GTEST_SKIP() << "only on x86";
#endif
  std::thread([] {
    EXPECT_FALSE(takes_denormals_for_zeros());
    lab::flush_denormals();
    EXPECT_TRUE(takes_denormals_for_zeros());
    std::thread([] { EXPECT_TRUE(takes_denormals_for_zeros()); }).join();
  }).join();
  EXPECT_FALSE(takes_denormals_for_zeros()) << "whoever started it goes on as before";
}

TEST(Process, FilesAreReplacedWhole) {
  const auto folder = std::filesystem::temp_directory_path() / lab::text("lab_process_test_", getpid());
  std::filesystem::create_directories(folder);
  const std::string path = folder / "file";
  lab::write_file_atomically(path, "one");
  lab::write_file_atomically(path, "two");
  EXPECT_EQ(lab::read_file(path, "file"), "two");
  EXPECT_THROW(lab::read_file(path, "file", 2), lab::ConfigError);
  EXPECT_THROW(lab::read_file(folder / "none", "file"), lab::InputNotFound);
  EXPECT_THROW(lab::read_file(folder, "file"), lab::InputNotFound);
  EXPECT_THROW(lab::write_file_atomically(folder / "none" / "file", "x"), lab::IoError);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder), {}), 1) << "a temporary file was left";
  std::filesystem::remove_all(folder);
}

}  // namespace
