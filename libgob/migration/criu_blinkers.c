/*
 * Preloaded into CRIU's dump by gobmigrate (hidden_areas.h): large memory areas, all of whose pages come
 * on demand, look one page long to it, so that it makes no list and no pipe for pages that it would not
 * send. $GOB_CRIU_BLINKERS is a file with a line "PID START END" (decimal, hexadecimal, hexadecimal) for
 * each such area, by the numbers that CRIU sees. Whatever goes wrong here: CRIU sees the area as it is.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { kPageSize = 4096 };

/* All of a file that does not tell its size, with a final zero; NULL if it cannot be had. */
static char* slurp(int fd) {
  size_t room = 1 << 16, bytes = 0;
  char* text = malloc(room + 1);
  while (text != NULL) {
    const ssize_t got = read(fd, text + bytes, room - bytes);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) break;
    bytes += (size_t)got;
    text[bytes] = '\0';
    if (got == 0) return text;
    if (bytes < room) continue;
    room *= 2;
    char* larger = realloc(text, room + 1);
    if (larger == NULL) break;
    text = larger;
  }
  free(text);
  return NULL;
}

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

static int is_listed(const char* list, long pid, unsigned long start, unsigned long end) {
  char line[80];
  snprintf(line, sizeof line, "%ld %lx %lx\n", pid, start, end);
  const char* at = strstr(list, line);
  return at != NULL && (at == list || at[-1] == '\n');
}

/* The rest of an area of `smaps` says at its end what the kernel knows of it: is it locked, of huge pages,
   a stack that grows, or of a device? CRIU would not leave its pages out. */
static int may_be_left_out(const char* area, const char* end) {
  static const char* const kFlags = "VmFlags:";
  const char* flags = memmem(area, (size_t)(end - area), kFlags, strlen(kFlags));
  if (flags == NULL) return 0;
  for (const char* at = flags + strlen(kFlags); at + 2 < end && *at == ' ' && at[1] >= 'a'; at += 3)
    for (const char* not = "lo ht gd io pf sh "; *not != '\0'; not += 3)
      if (at[1] == not[0] && at[2] == not[1]) return 0;
  return 1;
}

static int is_area(const char* line, unsigned long* start, unsigned long* end) {
  char dash = 0, blank = 0;
  return sscanf(line, "%lx%c%lx%c", start, &dash, end, &blank) == 4 && dash == '-' && blank == ' ';
}

static int put(int out, const char* from, size_t bytes) {
  while (bytes != 0) {
    const ssize_t step = write(out, from, bytes);
    if (step < 0 && errno == EINTR) continue;
    if (step <= 0) return 0;
    from += step;
    bytes -= (size_t)step;
  }
  return 1;
}

static int write_cut(int out, const char* text, const char* list, long pid) {
  unsigned long start = 0, end = 0, next_start = 0, next_end = 0;
  for (const char *area = text, *next = NULL; *area != '\0'; area = next) {
    const int known = is_area(area, &start, &end);
    next = area;
    do {
      next = strchrnul(next, '\n');
      next += *next == '\n';
    } while (*next != '\0' && !is_area(next, &next_start, &next_end));
    if (known && is_listed(list, pid, start, end) && may_be_left_out(area, next)) {
      char range[64];
      const int size = snprintf(range, sizeof range, "%lx-%lx", start, start + kPageSize);
      if (!put(out, range, (size_t)size)) return 0;
      area = strchr(area, ' ');
    }
    if (!put(out, area, (size_t)(next - area))) return 0;
  }
  return 1;
}

/* `fd` itself, or in its place one with what CRIU shall see. */
static int blinkered(int fd, long pid) {
  static int (*open_next)(int, const char*, int, ...);
  const char* path = getenv("GOB_CRIU_BLINKERS");
  char *list = NULL, *text = NULL;
  int seen = fd;
  if (open_next == NULL) *(void**)&open_next = dlsym(RTLD_NEXT, "openat64");
  const int file = path == NULL ? -1 : open_next(AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return fd;
  list = slurp(file);
  close(file);
  if (list != NULL && *list != '\0' && (text = slurp(fd)) != NULL) {
    const int out = memfd_create("smaps", MFD_CLOEXEC);
    if (out >= 0 && write_cut(out, text, list, pid) && lseek(out, 0, SEEK_SET) == 0) {
      close(fd);
      seen = out;
    } else if (out >= 0) {
      close(out);
    }
  }
  if (seen == fd) lseek(fd, 0, SEEK_SET);
  free(text);
  free(list);
  return seen;
}

int openat64(int folder, const char* path, int flags, ...) {
  static int (*next)(int, const char*, int, ...);
  va_list rest;
  va_start(rest, flags);
  const int mode = (flags & O_CREAT) != 0 ? va_arg(rest, int) : 0;
  va_end(rest);
  if (next == NULL) *(void**)&next = dlsym(RTLD_NEXT, "openat64");
  const int fd = next(folder, path, flags, mode);
  if (fd < 0 || (flags & O_ACCMODE) != O_RDONLY) return fd;
  const int error = errno;
  const long pid = process_of(folder, path);
  const int seen = pid > 0 ? blinkered(fd, pid) : fd;
  errno = error;
  return seen;
}
