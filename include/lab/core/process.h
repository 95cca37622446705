#pragma once
// How a process of ours starts, before anything else happens.

#include <cstdint>
#include <string>
#include <vector>

namespace lab {

// Sets the allocator up for training (glibc gives large tensors back to the kernel and faults them in again
// each step), flushes denormals, and asks to be ended with the parent. To be called first thing in main,
// once, before any thread exists.
void start_process();

// From now on this thread, and those it starts, take floats below the least normal one (1.2e-38 of 32 bits)
// for zero. Processors work on them many times slower, and the moments of weights that no longer get a
// gradient end there: a step takes twice as long then. On x86; on other processors nothing changes.
void flush_denormals();

// Seconds since start_process().
double seconds_since_start();

// This machine's name.
std::string host_name();

// The folder of the running program, and the path of a program beside it.
std::string program_folder();

// Runs a program, without a shell, and returns what it wrote to its standard output. `error` receives its
// standard error, `status` the exit status, or 128 + the signal that ended it. Throws IoError when it cannot
// be started.
struct ProgramResult {
  int status = 0;
  std::string output, error;
};
ProgramResult run_program(const std::vector<std::string>& arguments);

// The whole file as bytes. Throws InputNotFound or IoError, naming `what` the file is.
std::string read_file(const std::string& path, const std::string& what, uint64_t most_bytes = UINT64_MAX);

// Writes the file whole or not at all: temporary name, fsync, rename, fsync of the folder. Throws IoError.
void write_file_atomically(const std::string& path, const std::string& bytes);

}  // namespace lab
