#include "base/os.h"

#include <cstring>

#include "base/mem.h"

#include <time.h>
#if !defined(__wasm__)
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#endif

namespace dk {
#if defined(__wasm__)
Status FileBytes::open(const char* path, uint64_t, ErrorText* error) {
  return error->set(Code::io, "%s: WebAssembly opens no files; give the bytes", path);
}
void FileBytes::close() {}
const char* os_env(const char*) { return nullptr; }
#else
namespace {

Status read_all(int fd, const char* path, FileBytes* f, ErrorText* error) {
  uint8_t* p = static_cast<uint8_t*>(mem_alloc(f->size));
  if (!p) return error->set(Code::memory, "%s: no memory for %zu bytes", path, f->size);
  for (size_t at = 0; at < f->size;) {
    ssize_t n = read(fd, p + at, f->size - at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      mem_free(p);
      return n < 0 ? error->set(Code::io, "%s: %s", path, strerror(errno))
                   : error->set(Code::io, "%s: the file shrank while it was read", path);
    }
    at += static_cast<size_t>(n);
  }
  f->data = p;
  f->mapped = 0;
  return {};
}

}  // namespace

Status FileBytes::open(const char* path, uint64_t max_bytes, ErrorText* error) {
  int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return error->set(Code::io, "%s: %s", path, strerror(errno));
  struct stat st;
  Status s;
  if (fstat(fd, &st)) {
    s = error->set(Code::io, "%s: %s", path, strerror(errno));
  } else if (!S_ISREG(st.st_mode)) {
    s = error->set(Code::io, "%s: not a regular file", path);
  } else if (max_bytes && static_cast<uint64_t>(st.st_size) > max_bytes) {
    s = error->set(Code::memory, "%s: %llu bytes, the limit is %llu", path, static_cast<unsigned long long>(st.st_size),
                   static_cast<unsigned long long>(max_bytes));
  } else {
    size = static_cast<size_t>(st.st_size);
    // Kernels may read kSlack bytes behind a constant, so the mapping gets one more (anonymous) page.
    size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    size_t total = (size + page - 1) / page * page + page;
    void* p = size ? mmap(nullptr, total, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : MAP_FAILED;
    if (p != MAP_FAILED && mmap(p, size, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) == MAP_FAILED) {
      munmap(p, total);
      p = MAP_FAILED;
    }
    if (p != MAP_FAILED) {
      data = static_cast<const uint8_t*>(p);
      mapped = total;
    } else {
      s = read_all(fd, path, this, error);
    }
  }
  ::close(fd);
  return s;
}

void FileBytes::close() {
  if (mapped) {
    munmap(const_cast<uint8_t*>(data), mapped);
  } else {
    mem_free(const_cast<uint8_t*>(data));
  }
  *this = FileBytes();
}

const char* os_env(const char* name) { return getenv(name); }
#endif

uint64_t os_entropy() {
#if defined(__linux__)
  uint64_t v = 0;  // by number: older C libraries, and Android's before API 28, have no function for it
  if (syscall(SYS_getrandom, &v, sizeof v, 0) == static_cast<long>(sizeof v)) return v;
#endif
  return now_ns() * 0x9e3779b97f4a7c15;
}

uint64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

}  // namespace dk
