// Saving while the process dies, or the disk fails, at every single call to the system; and files that were
// damaged afterwards.

#include <dlfcn.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <torch/types.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <random>
#include <set>

#include "lab/core/error.h"
#include "lab/train/checkpoint.h"
#include "train/checkpoint_index.h"
#include "unit/temporary_folder.h"

namespace {

enum class Fault { none, die, fail };

// What happens to this process's calls. Only calls below the folder under test are looked at: the test's own
// files begin with its path, and descriptors are followed from open().
struct Plan {
  Fault fault = Fault::none;
  int at = -1;         // the call that is hit, from 0
  double part = 0;     // of a write's bytes, that still get through
  int error = ENOSPC;  // of a call that fails
  std::atomic<int> calls = 0;
} plan;

// True: this call is the one.
bool hit() { return plan.fault != Fault::none && plan.calls++ == plan.at; }

template <class Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

int refuse() {
  if (plan.fault == Fault::die) _exit(9);
  errno = plan.error;
  return -1;
}

}  // namespace

// In place of the C library's, for all that this program does.
extern "C" {
ssize_t write(int fd, const void* bytes, size_t size) {
  static auto* const real = next<ssize_t(int, const void*, size_t)>("write");
  if (fd > 2 && hit()) {
    const auto part = static_cast<size_t>(plan.part * static_cast<double>(size));
    if (part > 0 && real(fd, bytes, part) < 0) return -1;
    return refuse();
  }
  return real(fd, bytes, size);
}
int fsync(int fd) {
  static auto* const real = next<int(int)>("fsync");
  return hit() ? refuse() : real(fd);
}
int rename(const char* from, const char* to) {
  static auto* const real = next<int(const char*, const char*)>("rename");
  return hit() ? refuse() : real(from, to);
}
int link(const char* from, const char* to) {
  static auto* const real = next<int(const char*, const char*)>("link");
  if (plan.fault == Fault::die && hit()) _exit(9);  // where links fail, files are copied
  return real(from, to);
}
int unlink(const char* path) {
  static auto* const real = next<int(const char*)>("unlink");
  if (plan.fault == Fault::die && hit()) _exit(9);  // one that fails would only hide what is looked for
  return real(path);
}
}

namespace lab {
namespace {

namespace fs = std::filesystem;

class CheckpointFaults : public testing::Test {
 protected:
  // A run of 100 steps an epoch that has got so far; all tensors hold the step.
  static Snapshot snapshot(int64_t step) {
    Snapshot made;
    made.state.step = step;
    made.state.epoch = (step - 1) / 100;
    made.state.values = {{"loss/validate", 1.0 / static_cast<double>(step)}};
    for (int i = 0; i < 6; ++i)
      made.model.push_back({text("layer", i), torch::full({100 * i + 1}, static_cast<double>(step))});
    made.rest.push_back({"lab.buffers", torch::full({3, 2}, static_cast<double>(step), torch::kFloat64)});
    return made;
  }

  void save(int64_t step, bool stop_on_error = true) {
    const auto resume = newest_checkpoint(folder_, Log::silent());
    CheckpointPlan made{folder_, "loss/validate"};
    made.stop_on_error = stop_on_error;
    const auto sink = checkpoint_folder(made, resume ? &*resume : nullptr, Log::silent());
    sink->save(snapshot(step));
    sink->finish();
  }

  // The step of the newest whole checkpoint, whose tensors must all be of that step.
  int64_t newest() {
    const auto saved = newest_checkpoint(folder_, Log::silent());
    if (!saved) return 0;
    for (const auto& [name, tensor] : snapshot(saved->state.step).model)
      EXPECT_EQ(std::memcmp(saved->file.find(name)->data, tensor.const_data_ptr(), tensor.nbytes()), 0);
    return saved->state.step;
  }

  int unfinished() const {
    int count = 0;
    for (const auto& file : fs::directory_iterator(folder_)) {
      const std::string name = file.path().filename();
      count += name.ends_with(".partial") || name.find(".tmp-") != std::string::npos;
    }
    return count;
  }

  // Saves in a process of its own under the plan. True: it ended by itself.
  bool save_under(Fault fault, int at, double part, int error, int64_t step) {
    const pid_t child = fork();
    if (child == 0) {
      plan.error = error;
      plan.part = part;
      plan.at = at;
      const auto resume = newest_checkpoint(folder_, Log::silent());
      const auto sink =
          checkpoint_folder({folder_, "loss/validate"}, resume ? &*resume : nullptr, Log::silent());
      plan.fault = fault;
      int code = 0;
      try {
        sink->save(snapshot(step));
        sink->finish();
      } catch (const IoError&) {
        code = 74;
      }
      _exit(plan.calls > at ? code : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status)) << status;
    const int code = WEXITSTATUS(status);
    EXPECT_NE(code, fault == Fault::fail ? 0 : 74) << "call " << at;
    return code == 1;
  }

  const test::TemporaryFolder temporary_;
  const std::string folder_ = temporary_.path();
};

TEST_F(CheckpointFaults, ADeathAtAnyCallLeavesTheCheckpointBefore) {
  save(1);
  int64_t done = 1;
  int points = 0, calls = 0;
  for (int round = 0; points < 1000; ++round)
    for (int at = 0;; ++at) {
      const double part = 0.05 * (round % 20);
      if (save_under(Fault::die, at, part, 0, done + 1)) {
        calls = at;
        ASSERT_EQ(newest(), done + 1);
        done += 1;
        break;
      }
      ++points;
      const int64_t found = newest();
      ASSERT_TRUE(found == done || found == done + 1) << "call " << at << ": " << found << " after " << done;
      done = found;
    }
  EXPECT_GT(calls, 15);
  save(done + 1);
  EXPECT_EQ(unfinished(), 0) << "what dead processes left is removed by the next";
  std::cout << points << " deaths, " << calls << " calls in a save\n";
}

TEST_F(CheckpointFaults, AFailureOfAnyCallIsToldAndLeavesNothingBehind) {
  save(1);
  int64_t done = 1;
  int failures = 0;
  for (const int error : {ENOSPC, EIO, EDQUOT, EROFS})
    for (const double part : {0.0, 0.5})
      for (int at = 0;; ++at) {
        if (save_under(Fault::fail, at, part, error, done + 1)) {
          ASSERT_EQ(newest(), done + 1);
          done += 1;
          break;
        }
        ++failures;
        const int64_t found = newest();
        ASSERT_TRUE(found == done || found == done + 1) << "call " << at;
        ASSERT_EQ(unfinished(), 0) << "call " << at;
        done = found;
      }
  EXPECT_GT(failures, 50);
  std::cout << failures << " failures\n";
}

TEST_F(CheckpointFaults, ARunThatGoesOnAfterAFailureSavesAgain) {
  save(1);
  CheckpointPlan made{folder_, "loss/validate"};
  made.stop_on_error = false;
  const auto resume = newest_checkpoint(folder_, Log::silent());
  const auto sink = checkpoint_folder(made, &*resume, Log::silent());
  plan.at = 3;
  plan.calls = 0;
  plan.fault = Fault::fail;
  sink->save(snapshot(2));
  EXPECT_NO_THROW(sink->finish());
  plan.fault = Fault::none;
  EXPECT_EQ(newest(), 1);
  EXPECT_EQ(sink->best()->step, 1) << "a best that was not written is none";
  sink->save(snapshot(3));
  sink->finish();
  EXPECT_EQ(newest(), 3);
  EXPECT_EQ(sink->best()->step, 3);
}

// Puts something damaged in the place of the second of two checkpoints: the first must be taken.
class DamagedCheckpoint : public CheckpointFaults {
 protected:
  DamagedCheckpoint() {
    save(1);
    save(2);
    whole_ = test::read_bytes(path_);
  }
  int64_t newest_with(const std::string& bytes) {
    unlink(path_.c_str());  // last.safetensors is another name of it
    test::write_bytes(path_, bytes);
    return newest();
  }

  const std::string path_ = folder_ + "/epoch=0-step=2.safetensors";
  std::string whole_;
  std::mt19937_64 random_{1};
};

TEST_F(DamagedCheckpoint, EveryFlippedBitIsFoundAndTheOneBeforeTaken) {
  for (int i = 0; i < 10'000; ++i) {
    const size_t bit = random_() % (whole_.size() * 8);
    std::string bytes = whole_;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
    ASSERT_EQ(newest_with(bytes), 1) << "bit " << bit;
  }
  EXPECT_EQ(newest_with(whole_), 2);
}

TEST_F(DamagedCheckpoint, EveryTruncationIsFoundAndTheOneBeforeTaken) {
  for (int i = 0; i < 1'000; ++i) {
    const size_t length = i < 20 ? static_cast<size_t>(i) : random_() % whole_.size();
    ASSERT_EQ(newest_with(whole_.substr(0, length)), 1) << length << " bytes";
  }
}

TEST_F(CheckpointFaults, TheNewestAreKeptAndListed) {
  CheckpointPlan made{folder_, "loss/validate", Mode::max};
  made.keep = 3;
  {
    const auto sink = checkpoint_folder(made, nullptr, Log::silent());
    for (const int64_t step : {100, 200, 300, 400, 500}) sink->save(snapshot(step));
  }
  std::set<std::string> files;
  for (const auto& file : fs::directory_iterator(folder_)) files.insert(file.path().filename());
  EXPECT_EQ(files, (std::set<std::string>{"best.safetensors", "last.safetensors", "index.json",
                                          "epoch=2-step=300.safetensors", "epoch=3-step=400.safetensors",
                                          "epoch=4-step=500.safetensors"}));
  EXPECT_EQ(read_checkpoint(folder_ + "/best.safetensors").state.step, 100);
  EXPECT_EQ(read_checkpoint(folder_ + "/last.safetensors").state.step, 500);
  fs::remove(folder_ + "/index.json");  // the files tell as well
  EXPECT_EQ(newest(), 500);
}

std::set<std::string> checkpoints_of(const std::string& folder) {
  std::set<std::string> files;
  for (const auto& file : fs::directory_iterator(folder))
    if (const auto name = file.path().filename().string(); name != "index.json") files.insert(name);
  return files;
}

// loss/validate is 1 / step: with Mode::max the first ones are the best.
TEST_F(CheckpointFaults, TheBestAreKeptUnderNamesOfTheirOwn) {
  CheckpointPlan made{folder_, "loss/validate", Mode::max};
  made.keep = 1;
  made.top = 2;
  made.names = "mine-{step}-{loss/validate:.4f}";
  {
    const auto sink = checkpoint_folder(made, nullptr, Log::silent());
    for (const int64_t step : {300, 100, 200}) sink->save(snapshot(step));
  }
  EXPECT_EQ(checkpoints_of(folder_),
            (std::set<std::string>{"best.safetensors", "last.safetensors", "epoch=0-step=100.safetensors",
                                   "epoch=1-step=200.safetensors", "mine-100-0.0100.safetensors",
                                   "mine-200-0.0050.safetensors"}));
  const SavedRun last = read_checkpoint(folder_ + "/last.safetensors");
  ASSERT_EQ(last.state.next_best.size(), 1U);
  EXPECT_EQ(last.state.best->step, 100);
  EXPECT_EQ(last.state.next_best[0].file, "mine-200-0.0050.safetensors");
  {
    const auto sink = checkpoint_folder(made, &last, Log::silent());  // goes on: 200 is still the second
    for (const int64_t step : {400, 500}) sink->save(snapshot(step));
  }
  EXPECT_EQ(checkpoints_of(folder_),
            (std::set<std::string>{"best.safetensors", "last.safetensors", "epoch=0-step=100.safetensors",
                                   "epoch=1-step=200.safetensors", "epoch=4-step=500.safetensors",
                                   "mine-100-0.0100.safetensors", "mine-200-0.0050.safetensors"}));
  EXPECT_EQ(read_checkpoint(folder_ + "/best.safetensors").state.step, 100);
}

// With one alone only best.safetensors is left of it; when more are to be kept it must not be lost to a
// better one.
TEST_F(CheckpointFaults, MoreOrFewerOfTheBestMayBeKeptByARunThatGoesOn) {
  CheckpointPlan made{folder_, "loss/validate", Mode::max};
  made.keep = 1;
  {
    const auto sink = checkpoint_folder(made, nullptr, Log::silent());
    for (const int64_t step : {200, 300, 400}) sink->save(snapshot(step));
  }
  made.top = 3;
  {
    const SavedRun last = read_checkpoint(folder_ + "/last.safetensors");
    const auto sink = checkpoint_folder(made, &last, Log::silent());
    sink->save(snapshot(500));
    Snapshot better = snapshot(600);
    better.state.values = {{"loss/validate", 1}};
    sink->save(better);
  }
  EXPECT_EQ(checkpoints_of(folder_),
            (std::set<std::string>{"best.safetensors", "last.safetensors", "epoch=1-step=200.safetensors",
                                   "epoch=4-step=500.safetensors", "epoch=5-step=600.safetensors"}));
  EXPECT_EQ(read_checkpoint(folder_ + "/best.safetensors").state.step, 600);
  made.top = 2;
  const SavedRun last = read_checkpoint(folder_ + "/last.safetensors");
  const auto sink = checkpoint_folder(made, &last, Log::silent());
  for (const int64_t step : {700, 800}) sink->save(snapshot(step));
  sink->finish();
  EXPECT_EQ(checkpoints_of(folder_),
            (std::set<std::string>{"best.safetensors", "last.safetensors", "epoch=1-step=200.safetensors",
                                   "epoch=5-step=600.safetensors", "epoch=7-step=800.safetensors"}));
}

TEST_F(CheckpointFaults, AllAreKeptWhereThatIsAskedFor) {
  CheckpointPlan made{folder_, "loss/validate"};
  made.keep = -1;
  const auto sink = checkpoint_folder(made, nullptr, Log::silent());
  for (const int64_t step : {100, 200, 300, 400}) sink->save(snapshot(step));
  sink->finish();
  EXPECT_EQ(checkpoints_of(folder_).size(), 6U);
}

TEST_F(CheckpointFaults, ARunThatGoesOnFromAnOlderOneGivesUpTheCourseAfterIt) {
  CheckpointPlan made{folder_, "loss/validate"};  // falls, so that the newest is the best
  made.keep = 3;
  {
    const auto sink = checkpoint_folder(made, nullptr, Log::silent());
    for (const int64_t step : {100, 200, 300}) sink->save(snapshot(step));
  }
  const SavedRun older = read_checkpoint(folder_ + "/epoch=0-step=100.safetensors");
  checkpoint_folder(made, &older, Log::silent());  // and dies before it saves anything
  EXPECT_EQ(newest(), 100);
  EXPECT_EQ(checkpoints_in(folder_).size(), 1U) << "nothing of that course to fall back to";
  EXPECT_EQ(read_checkpoint(folder_ + "/last.safetensors").state.step, 100);
  EXPECT_EQ(read_checkpoint(folder_ + "/best.safetensors").state.step, 100);
  EXPECT_EQ(read_checkpoint(folder_ + "/best.given-up.safetensors").state.step, 300);
  fs::remove(folder_ + "/best.given-up.safetensors");
  save(150);
  EXPECT_EQ(newest(), 150);
  EXPECT_EQ(read_checkpoint(folder_ + "/best.safetensors").state.step, 150);
}

}  // namespace
}  // namespace lab
