// Counts the allocations of a process, in the first 8 bytes of a file that its script reads (counts.py).
// Preloaded:
//   LD_PRELOAD=liballocation_count.so LAB_BENCH_ALLOCATIONS=FOLDER program
// The file is FOLDER/PID. What is allocated before the program's own code runs is not counted.

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
}

namespace {

using Count = std::atomic<int64_t>;
Count unseen;  // where there is no file
Count* count = &unseen;

__attribute__((constructor)) void open_count() {
  const char* folder = std::getenv("LAB_BENCH_ALLOCATIONS");
  if (!folder) return;
  char path[4096];
  std::snprintf(path, sizeof path, "%s/%d", folder, getpid());
  const int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (file < 0 || ftruncate(file, sizeof(Count)) != 0) return;
  void* memory = mmap(nullptr, sizeof(Count), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (memory != MAP_FAILED) count = static_cast<Count*>(memory);
}

void one_more() { count->fetch_add(1, std::memory_order_relaxed); }

}  // namespace

extern "C" {

void* malloc(size_t bytes) {
  one_more();
  return __libc_malloc(bytes);
}

void* calloc(size_t n, size_t bytes) {
  one_more();
  return __libc_calloc(n, bytes);
}

void* realloc(void* old, size_t bytes) {
  one_more();
  return __libc_realloc(old, bytes);
}

void* memalign(size_t alignment, size_t bytes) {
  one_more();
  return __libc_memalign(alignment, bytes);
}

void* aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }

int posix_memalign(void** out, size_t alignment, size_t bytes) {
  *out = memalign(alignment, bytes);
  return *out ? 0 : ENOMEM;
}

}  // extern "C"
