/*
 * Preloaded into CRIU 3.17 to 4.0 by tests on kernels from 6.13 on, which show the pages of the vdso's
 * data as two areas, [vvar] and [vvar_vclock]: CRIU before 4.2 knows one. Makes them one again in
 * every maps and smaps file that CRIU reads. Newer CRIU does not need it.
 *
 * Also, CRIU's server of lazy pages wants a pipe larger than fs.pipe-max-size, for which root may lack
 * CAP_SYS_RESOURCE: it gets the usual limit, which is as much as it ever puts in.
 *
 * And from Linux 6.16 on sockets of a network have no SO_PASSCRED and SO_PASSSEC: they are off.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* All of a file of /proc, which has no size; *bytes without the final zero. */
static char* slurp(int fd, size_t* bytes) {
  size_t room = 1 << 16;
  char* text = malloc(room + 1);
  *bytes = 0;
  while (text != NULL) {
    ssize_t got = read(fd, text + *bytes, room - *bytes);
    if (got <= 0) break;
    *bytes += (size_t)got;
    if (*bytes < room) continue;
    room *= 2;
    text = realloc(text, room + 1);
  }
  if (text != NULL) text[*bytes] = '\0';
  return text;
}

/* Is it the first line of an area, and which? (sscanf(3) would look for the end of the whole text.) */
static int is_area(const char* line, unsigned long* start, unsigned long* end) {
  char* rest = NULL;
  *start = strtoul(line, &rest, 16);
  if (rest == line || *rest != '-') return 0;
  const char* second = rest + 1;
  *end = strtoul(second, &rest, 16);
  return rest != second && *rest == ' ';
}

static int names(const char* line, const char* next, const char* name) {
  return memmem(line, (size_t)(next - line), name, strlen(name)) != NULL;
}

static int joined(int fd) {
  size_t bytes = 0;
  char* text = slurp(fd, &bytes);
  int out = memfd_create("maps", MFD_CLOEXEC);
  unsigned long start, end, clock_start = 0, clock_end = 0;
  char *seen = malloc(bytes + 1), *at = seen; /* no longer than what there was */
  close(fd);
  if (text == NULL || seen == NULL || out < 0) return -1;
  for (char *line = text, *next; *line != '\0'; line = next) {
    next = strchrnul(line, '\n');
    next += *next == '\n';
    if (names(line, next, "[vvar_vclock]") && is_area(line, &start, &end)) {
      clock_start = start;
      clock_end = end;
    }
  }
  int skip = 0;
  for (char *line = text, *next; *line != '\0'; line = next) {
    next = strchrnul(line, '\n');
    next += *next == '\n';
    const int area = is_area(line, &start, &end);
    if (area) skip = clock_end != 0 && start == clock_start;
    if (skip) continue;
    if (area && clock_end != 0 && end == clock_start && names(line, next, "[vvar]")) {
      at += sprintf(at, "%lx-%lx", start, clock_end);
      line = strchr(line, ' ');
    }
    at = mempcpy(at, line, (size_t)(next - line));
  }
  for (char* from = seen; from < at;) {
    ssize_t step = write(out, from, (size_t)(at - from));
    if (step <= 0) break;
    from += step;
  }
  free(seen);
  free(text);
  lseek(out, 0, SEEK_SET);
  return out;
}

int fcntl64(int fd, int what, ...) {
  va_list rest;
  va_start(rest, what);
  const long with = va_arg(rest, long);
  va_end(rest);
  const int done = (int)syscall(SYS_fcntl, fd, what, with);
  /* Pipes that CRIU doubles, up to twice that, take a refusal well. */
  if (done >= 0 || what != F_SETPIPE_SZ || with <= 2L << 20) return done;
  return (int)syscall(SYS_fcntl, fd, what, 1L << 20);
}

int fcntl(int fd, int what, ...) __attribute__((alias("fcntl64")));

int getsockopt(int fd, int level, int name, void* value, socklen_t* bytes) {
  const int done = (int)syscall(SYS_getsockopt, fd, level, name, value, bytes);
  if (done == 0 || errno != EOPNOTSUPP || level != SOL_SOCKET ||
      (name != SO_PASSCRED && name != SO_PASSSEC))
    return done;
  memset(value, 0, *bytes);
  return 0;
}

static int is_maps(const char* path) {
  const char* name = strrchr(path, '/');
  name = name == NULL ? path : name + 1;
  return strcmp(name, "maps") == 0 || strcmp(name, "smaps") == 0;
}

int openat64(int folder, const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const int mode = (flags & O_CREAT) != 0 ? va_arg(rest, int) : 0;
  va_end(rest);
  const int fd = (int)syscall(SYS_openat, folder, path, flags, mode);
  return fd >= 0 && is_maps(path) && (flags & O_ACCMODE) == O_RDONLY ? joined(fd) : fd;
}

int open64(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const int mode = (flags & O_CREAT) != 0 ? va_arg(rest, int) : 0;
  va_end(rest);
  return openat64(AT_FDCWD, path, flags, mode);
}

FILE* fopen64(const char* path, const char* how) {
  const int flags = how[0] == 'r' ? (strchr(how, '+') != NULL ? O_RDWR : O_RDONLY)
                                  : O_CREAT | (strchr(how, '+') != NULL ? O_RDWR : O_WRONLY) |
                                        (how[0] == 'a' ? O_APPEND : O_TRUNC);
  const int fd = openat64(AT_FDCWD, path, flags | O_CLOEXEC, 0666);
  return fd < 0 ? NULL : fdopen(fd, how);
}
