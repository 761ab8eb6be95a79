/*
 * Preloaded into CRIU's dump by gobmigrate (hidden_areas.h): large memory areas, all of whose pages come
 * on demand, look one page long to it, so that it makes no list and no pipe for pages that it would not
 * send. In place of a process's smaps it gets what gobmigrate writes meanwhile to PID/smaps in the folder
 * $GOB_CRIU_BLINKERS, by the number that CRIU sees. Whatever goes wrong here: CRIU sees smaps as it is.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int (*next)(int, const char*, int, ...);

/* Of a file "smaps" of a process, opened as `path` below `folder`: which process; 0: it is none. */
static long process_of(int folder, const char* path) {
  char link[64], place[64];
  const char* name = strrchr(path, '/');
  size_t size = 0;
  if (strcmp(name == NULL ? path : name + 1, "smaps") != 0) return 0;
  if (name == NULL) {
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    const ssize_t got = readlink(link, place, sizeof place - 1);
    if (got <= 0) return 0;
    size = (size_t)got;
  } else {
    size = (size_t)(name - path);
    if (size >= sizeof place) return 0;
    memcpy(place, path, size);
  }
  place[size] = '\0';
  const char* last = strrchr(place, '/');
  return strtol(last == NULL ? place : last + 1, NULL, 10);
}

/* What CRIU shall see of the process, once it is written; negative: there is no such file, or whoever was
   to write it is gone. */
static int view_of(long pid) {
  char path[4096];
  const char* folder = getenv("GOB_CRIU_BLINKERS");
  struct stat facts;
  if (folder == NULL) return -1;
  const int size = snprintf(path, sizeof path, "%s/%ld/smaps", folder, pid);
  if (size < 0 || size >= (int)sizeof path) return -1;
  const int file = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return -1;
  while (flock(file, LOCK_SH) != 0 && errno == EINTR) continue;
  const int whole = fstat(file, &facts) == 0 && (facts.st_mode & S_IRUSR) != 0;
  close(file);
  /* Others may be preloaded, too, and want to see what CRIU opens. */
  return whole ? next(AT_FDCWD, path, O_RDONLY | O_CLOEXEC) : -1;
}

int openat64(int folder, const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const int mode = (flags & O_CREAT) != 0 ? va_arg(rest, int) : 0;
  va_end(rest);
  if (next == NULL) *(void**)&next = dlsym(RTLD_NEXT, "openat64");
  if ((flags & O_ACCMODE) == O_RDONLY) {
    const int error = errno;
    const long pid = process_of(folder, path);
    const int seen = pid > 0 ? view_of(pid) : -1;
    errno = error;
    if (seen >= 0) return seen;
  }
  return next(folder, path, flags, mode);
}
