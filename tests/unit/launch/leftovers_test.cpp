#include "lab/launch/leftovers.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "lab/core/error.h"

namespace {

namespace fs = std::filesystem;
using testing::UnorderedElementsAre;

// Places of the test's own, where everything counts as old at once.
class Leftovers : public testing::Test {
 protected:
  Leftovers() {
    fs::create_directories(places.shared_memory);
    fs::create_directories(places.temporary);
  }
  ~Leftovers() override { fs::remove_all(root); }
  std::string folder(const std::string& path) {
    fs::create_directories(path + "/inner");
    std::ofstream(path + "/inner/file") << "x";
    return path;
  }
  std::string file(const std::string& path) {
    std::ofstream(path) << "x";
    return path;
  }
  std::string ours() const { return lab::text("lab_run.", geteuid(), "."); }
  const std::string root = fs::temp_directory_path() / lab::text("lab_leftovers_test_", getpid());
  lab::Places places{root + "/shm", root + "/tmp", "here", geteuid(), -1};
};

TEST_F(Leftovers, AFolderOfOursGoesWhenNobodyHoldsIt) {
  const auto dead = folder(places.shared_memory + "/" + ours() + "1.2");
  const auto dead_too = folder(places.temporary + "/" + ours() + "3.4");
  const auto locked = folder(places.shared_memory + "/" + ours() + "5.6");
  const auto open_file = folder(places.shared_memory + "/" + ours() + "7.8");
  const auto foreign = folder(places.shared_memory + "/lab_run.4242424.7.8");
  const int lock = open(locked.c_str(), O_RDONLY), held = open((open_file + "/inner/file").c_str(), O_RDONLY);
  ASSERT_EQ(flock(lock, LOCK_EX), 0);
  EXPECT_THAT(lab::remove_leftovers(places), UnorderedElementsAre(dead, dead_too));
  close(lock);
  close(held);
  EXPECT_THAT(lab::remove_leftovers(places), UnorderedElementsAre(locked, open_file));
  EXPECT_TRUE(fs::exists(foreign));
}

// A holder in another container shows no open files here; its lock does: here the descriptor is on its way
// through a socket, and so in no process.
TEST_F(Leftovers, AFolderOfOursStaysWhileItIsLocked) {
  const auto locked = folder(places.shared_memory + "/" + ours() + "5.6");
  int descriptor = open(locked.c_str(), O_RDONLY);
  ASSERT_EQ(flock(descriptor, LOCK_EX), 0);
  std::array<int, 2> ends{};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends.data()), 0);
  char byte = 0;
  iovec data{&byte, 1};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> room{};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = room.data();
  message.msg_controllen = room.size();
  cmsghdr* passed = CMSG_FIRSTHDR(&message);
  passed->cmsg_level = SOL_SOCKET;
  passed->cmsg_type = SCM_RIGHTS;
  passed->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(passed), &descriptor, sizeof descriptor);
  ASSERT_EQ(sendmsg(ends[0], &message, 0), 1);
  close(descriptor);
  EXPECT_THAT(lab::remove_leftovers(places), UnorderedElementsAre());
  close(ends[0]);
  close(ends[1]);
  EXPECT_THAT(lab::remove_leftovers(places), UnorderedElementsAre(locked));
}

TEST_F(Leftovers, ASegmentGoesWhenNobodyMapsIt) {
  const auto dead = file(places.shared_memory + "/vader_segment.here.0.1.0");
  const auto mapped = file(places.shared_memory + "/vader_segment.here.0.2.0");
  const auto elsewhere = file(places.shared_memory + "/vader_segment.there.0.1.0");
  fs::create_symlink("/etc/passwd", places.shared_memory + "/vader_segment.here.0.3.0");
  const int descriptor = open(mapped.c_str(), O_RDWR);
  void* memory = mmap(nullptr, 1, PROT_READ, MAP_SHARED, descriptor, 0);
  close(descriptor);
  EXPECT_THAT(lab::remove_leftovers(places), UnorderedElementsAre(dead));
  munmap(memory, 1);
  EXPECT_THAT(lab::remove_leftovers(places), UnorderedElementsAre(mapped));
  EXPECT_TRUE(fs::exists(elsewhere));
}

TEST_F(Leftovers, ASessionGoesWithItsLauncher) {
  const std::string all = lab::text(places.temporary, "/ompi.here.", geteuid());
  const auto dead = folder(all + "/pid.4194303");                 // no process has this id
  const auto reused = folder(lab::text(all, "/pid.", getpid()));  // one has, and is no launcher
  EXPECT_THAT(lab::remove_leftovers(places), UnorderedElementsAre(dead, reused));
  EXPECT_FALSE(fs::exists(all));
  const auto held = folder(all + "/pid.4194303");
  const int descriptor = open((held + "/inner/file").c_str(), O_RDONLY);
  EXPECT_THAT(lab::remove_leftovers(places), UnorderedElementsAre());
  close(descriptor);
  EXPECT_TRUE(fs::exists(held));
}

TEST_F(Leftovers, NewbornsStay) {
  const auto newborn = folder(places.shared_memory + "/" + ours() + "1.2");
  places.newborn_seconds = 3600;
  EXPECT_THAT(lab::remove_leftovers(places), UnorderedElementsAre());
  EXPECT_TRUE(fs::exists(newborn));
}

TEST_F(Leftovers, AJobsFolderIsItsOwnAndGoesWithIt) {
  const std::string path = lab::job_folder_path(places);
  EXPECT_TRUE(path.starts_with(places.shared_memory + "/" + ours() + lab::text(getpid(), "."))) << path;
  {
    const lab::JobFolder mine(path);
    struct stat info {};
    ASSERT_EQ(stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0700u);
    EXPECT_THAT(lab::remove_leftovers(places), UnorderedElementsAre());
    EXPECT_THROW(lab::JobFolder second(path), lab::IoError);
    folder(path + "/session");
  }
  EXPECT_FALSE(fs::exists(path));
}

TEST(LeftoverNames, SessionOwnersAndPrefixes) {
  EXPECT_EQ(lab::session_owner("pid.12"), 12);
  for (const char* name : {"jf.12", "pid.", "pid.x", "pid.12x", "12"})
    EXPECT_EQ(lab::session_owner(name), 0) << name;
  EXPECT_TRUE(lab::in_use("/a/b", {"/x", "/a/b/c"}));
  EXPECT_TRUE(lab::in_use("/a/b", {"/a/b"}));
  EXPECT_FALSE(lab::in_use("/a/b", {"/a/bc", "/a"}));
}

}  // namespace
