#include "lab/core/shared_segment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "lab/core/error.h"

namespace {

using lab::SharedSegment;

TEST(SharedSegment, IsSeenByAnotherProcessAndOutlivesItsDescriptors) {
  const auto here = SharedSegment::make(100'000);
  EXPECT_TRUE(here->shared());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(here->data()) % 4096, 0u);
  const pid_t child = fork();
  if (child == 0) {
    const auto there = SharedSegment::open(here->address(), 100'000);
    there->reserve(50'000, 50'000);
    there->close();
    std::memcpy(there->data() + 99'990, "from there", 10);
    _exit(there->data()[0] == std::byte{0} ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  here->close();
  EXPECT_EQ(std::memcmp(here->data() + 99'990, "from there", 10), 0);
  EXPECT_THROW(SharedSegment::open(here->address(), 100'000), lab::Unavailable) << "closed";
}

TEST(SharedSegment, HasNoName) {
  const auto segment = SharedSegment::make(100'000);
  for (const char* folder : {"/dev/shm", "/tmp"})
    for (const auto& file : std::filesystem::directory_iterator(folder))
      EXPECT_EQ(file.path().string().find("lab-shared"), std::string::npos) << file.path();
}

TEST(SharedSegment, WhatIsNotItIsRefused) {
  const auto segment = SharedSegment::make(5000), other = SharedSegment::make(5000);
  auto address = segment->address();
  address.token = other->address().token;
  EXPECT_THROW(SharedSegment::open(address, 5000), lab::Unavailable) << "the token is another";
  EXPECT_THROW(SharedSegment::open(segment->address(), 5001), lab::Unavailable) << "the size is another";
  EXPECT_THROW(SharedSegment::open({}, 5000), lab::Unavailable) << "none was made";
}

// Beyond the limit the system would send a signal that ends the process.
TEST(SharedSegment, ALimitOnFilesIsAnErrorAndNotASignal) {
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit now{10'000, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &now);
  EXPECT_NO_THROW(SharedSegment::make(5000));
  try {
    SharedSegment::make(50'000);
    ADD_FAILURE() << "it was not refused";
  } catch (const lab::Unavailable& e) {
    EXPECT_THAT(e.what(), testing::HasSubstr("ulimit -f"));
  }
  setrlimit(RLIMIT_FSIZE, &before);
}

TEST(SharedSegment, PrivateMemoryIsZerosToo) {
  const auto segment = SharedSegment::make_private(5000);
  EXPECT_FALSE(segment->shared());
  EXPECT_EQ(segment->data()[4999], std::byte{0});
  EXPECT_THROW(SharedSegment::open(segment->address(), 5000), lab::Unavailable);
}

}  // namespace
