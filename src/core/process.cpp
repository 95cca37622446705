#include "lab/core/process.h"

#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <climits>
#include <filesystem>

#include "lab/core/error.h"

extern char** environ;

namespace lab {

namespace {
std::chrono::steady_clock::time_point started;
}

double seconds_since_start() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
}

void start_process() {
  started = std::chrono::steady_clock::now();
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, INT_MAX);
  flush_denormals();
  const pid_t parent = getppid();
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) raise(SIGKILL);  // the parent was gone before we asked
}

std::string host_name() {
  std::array<char, HOST_NAME_MAX + 1> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "localhost";
}

std::string program_folder() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path().string();
}

namespace {

struct Pipe {
  int read = -1, write = -1;
  Pipe() {
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) != 0) throw IoError("cannot make a pipe: ", system_error_text(errno));
    read = ends[0];
    write = ends[1];
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe() {
    close(read);
    close_write();
  }
  void close_write() {
    if (write >= 0) close(write);
    write = -1;
  }
};

// Reads both until both are closed, so that neither can fill up and block the writer.
void drain(const Pipe& first, std::string& first_out, const Pipe& second, std::string& second_out) {
  std::array<pollfd, 2> fds = {{{first.read, POLLIN, 0}, {second.read, POLLIN, 0}}};
  const std::array<std::string*, 2> outs = {&first_out, &second_out};
  std::vector<char> buffer(1 << 16);
  while (fds[0].fd >= 0 || fds[1].fd >= 0) {
    if (poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR)
      throw IoError("poll: ", system_error_text(errno));
    for (size_t i = 0; i < 2; ++i) {
      if (fds[i].fd < 0 || fds[i].revents == 0) continue;
      const ssize_t got = read(fds[i].fd, buffer.data(), buffer.size());
      if (got > 0) outs[i]->append(buffer.data(), static_cast<size_t>(got));
      if (got == 0 || (got < 0 && errno != EINTR)) fds[i].fd = -1;
    }
  }
}

}  // namespace

ProgramResult run_program(const std::vector<std::string>& arguments) {
  Pipe output, error;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output.write, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, error.write, STDERR_FILENO);
  std::vector<char*> argv;
  for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  pid_t child = 0;
  // A signal to the whole group that asks us for a stop is not for this program: we wait for its answer.
  sigset_t blocked;
  sigemptyset(&blocked);
  for (const int number : {SIGUSR1, SIGTERM, SIGINT}) sigaddset(&blocked, number);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  posix_spawnattr_setsigmask(&attributes, &blocked);
  const int problem = posix_spawn(&child, argv.front(), &actions, &attributes, argv.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (problem != 0) throw IoError("cannot run ", arguments.front(), ": ", system_error_text(problem));
  output.close_write();
  error.close_write();
  ProgramResult result;
  drain(output, result.output, error, result.error);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

namespace {

struct File {
  int fd;
  explicit File(int fd_) : fd(fd_) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (fd >= 0) close(fd);
  }
};

void write_all(int fd, const std::string& bytes, const std::string& path) {
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t wrote = write(fd, bytes.data() + done, bytes.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0)
      throw IoError("cannot write ", path, ": ", system_error_text(errno), "; check rights and free space");
    done += static_cast<size_t>(wrote);
  }
}

}  // namespace

std::string read_file(const std::string& path, const std::string& what, uint64_t most_bytes) {
  const File file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.fd < 0) {
    if (errno == ENOENT || errno == ENOTDIR)
      throw InputNotFound("the ", what, " ", quoted(path),
                          " is not there; check the path (it is relative to the current folder)");
    throw IoError("cannot open the ", what, " ", quoted(path), ": ", system_error_text(errno));
  }
  struct stat info {};
  if (fstat(file.fd, &info) == 0 && S_ISDIR(info.st_mode))
    throw InputNotFound("the ", what, " ", quoted(path), " is a folder, a file is wanted");
  std::string bytes;
  std::vector<char> buffer(1 << 16);
  for (;;) {
    const ssize_t got = read(file.fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw IoError("cannot read the ", what, " ", quoted(path), ": ", system_error_text(errno));
    if (got == 0) return bytes;
    bytes.append(buffer.data(), static_cast<size_t>(got));
    if (bytes.size() > most_bytes)
      throw ConfigError("the ", what, " ", quoted(path), " is larger than ", byte_size(most_bytes),
                        "; is it the right file?");
  }
}

void write_file_atomically(const std::string& path, const std::string& bytes) {
  static std::atomic<int> count = 0;  // two threads may write one file
  const std::string temporary = text(path, ".tmp-", getpid(), "-", ++count);
  try {
    const File file(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (file.fd < 0)
      throw IoError("cannot write ", path, ": ", system_error_text(errno), "; check rights and free space");
    write_all(file.fd, bytes, path);
    if (fsync(file.fd) != 0) throw IoError("cannot write ", path, ": ", system_error_text(errno));
    if (rename(temporary.c_str(), path.c_str()) != 0)
      throw IoError("cannot replace ", path, ": ", system_error_text(errno));
  } catch (...) {
    unlink(temporary.c_str());
    throw;
  }
  const auto folder = std::filesystem::path(path).parent_path();
  const File directory(open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.fd < 0) return;  // may be written to but not read: the rename stands all the same
  if (fsync(directory.fd) != 0 && errno != EINVAL && errno != ENOTSUP)  // some cannot
    throw IoError("cannot bring the name of ", path, " to the disk: ", system_error_text(errno));
}

}  // namespace lab
