/*
 * Preloaded into gobmigrate and CRIU by tests: holds the process at a moment of a move, by name, until
 * the test has done what it wants to do there. A moment is something that the program does anyway:
 * a message to its guard or its warden, an image that it opens.
 *
 * $GOB_MOMENTS is a folder. If its file `wanted` holds the name of the moment, whoever comes there
 * first takes that file away, writes its process number and a line end to the FIFO `reached`, and
 * goes on when it can read a byte from the FIFO `release`.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static enum { kOther, kMover, kServer, kDump, kRestore } role;
static pid_t self; /* forks are others */

static ssize_t plain_write(int fd, const void* bytes, size_t size) {
  return (ssize_t)syscall(SYS_write, fd, bytes, size);
}

static void at(const char* moment) {
  const int error = errno;
  char path[3][256], wanted[64] = "", number[16];
  const char* folder = getenv("GOB_MOMENTS");
  if (folder == NULL || getpid() != self) return;
  const char* names[3] = {"wanted", "reached", "release"};
  for (int i = 0; i < 3; ++i) snprintf(path[i], sizeof path[i], "%s/%s", folder, names[i]);
  int fd = (int)syscall(SYS_openat, AT_FDCWD, path[0], O_RDONLY | O_CLOEXEC);
  if (fd >= 0) {
    if (read(fd, wanted, sizeof wanted - 1) < 0) wanted[0] = '\0';
    close(fd);
  }
  if (strcmp(wanted, moment) == 0 && unlink(path[0]) == 0) {
    /* Opened before the test hears of it, and for both, so that its byte waits here. */
    const int release = (int)syscall(SYS_openat, AT_FDCWD, path[2], O_RDWR | O_CLOEXEC);
    fd = (int)syscall(SYS_openat, AT_FDCWD, path[1], O_WRONLY | O_CLOEXEC);
    const int size = snprintf(number, sizeof number, "%d\n", (int)getpid());
    if (plain_write(fd, number, (size_t)size) != size) _exit(99);
    close(fd);
    while (read(release, number, 1) < 0 && errno == EINTR) continue;
    close(release);
  }
  errno = error;
}

__attribute__((constructor)) static void begin(int argc, char** argv) {
  const char* what = argc > 1 ? argv[1] : "";
  const int gobmigrate = strcmp(program_invocation_short_name, "gobmigrate") == 0;
  self = getpid();
  if (gobmigrate) role = strcmp(what, "receive") == 0 ? kServer : kMover;
  else if (strcmp(program_invocation_short_name, "criu") == 0 && strcmp(what, "dump") == 0) role = kDump;
  else if (strcmp(program_invocation_short_name, "criu") == 0 && strcmp(what, "restore") == 0) role = kRestore;
}

__attribute__((destructor)) static void end(void) {
  if (role == kDump) at("dumped"); /* the process stands still, its context is written */
}

/* gobmigrate to its guard: a letter for each step. */
ssize_t write(int fd, const void* bytes, size_t size) {
  if (role == kMover && size == 1) {
    switch (*(const char*)bytes) {
      case 'F': at("freezing"); break;   /* next CRIU begins */
      case 'C': at("committing"); break; /* restored; next the source is given up */
      case 'G': at("told"); break;       /* "go" is said */
      case 'D': at("left"); break;       /* the source is dead, all its memory was handed over */
      default: break;
    }
  }
  return plain_write(fd, bytes, size);
}

/* The target to its warden: one byte. What libgob sends to gobd is longer. */
ssize_t sendmsg(int fd, const struct msghdr* message, int flags) {
  if (role == kServer && message->msg_iovlen == 1 && message->msg_iov->iov_len == 1) {
    switch (*(const char*)message->msg_iov->iov_base) {
      case 'U': at("handing"); break;  /* CRIU gave a userfaultfd */
      case 'G': at("going"); break;    /* "go" was heard; the process is about to run */
      case 'D': at("arrived"); break;  /* all memory is there */
      default: break;
    }
  }
  return (ssize_t)syscall(SYS_sendmsg, fd, message, flags);
}

/* The source copies memory into containers. Small ones are messages. */
ssize_t process_vm_readv(pid_t pid, const struct iovec* local, unsigned long locals,
                         const struct iovec* remote, unsigned long remotes, unsigned long flags) {
  if (role == kMover && pid != self) at("filling");
  return (ssize_t)syscall(SYS_process_vm_readv, pid, local, locals, remote, remotes, flags);
}

/* CRIU's images. */
int openat64(int folder, const char* path, int flags, ...) {
  static int (*next)(int, const char*, int, ...);
  va_list rest;
  va_start(rest, flags);
  const int mode = (flags & O_CREAT) != 0 ? va_arg(rest, int) : 0;
  va_end(rest);
  if (next == NULL) *(void**)&next = dlsym(RTLD_NEXT, "openat64");
  if (role == kRestore && strcmp(path, "pstree.img") == 0) at("restoring"); /* the images are there */
  if (strncmp(path, "core-", 5) == 0) {
    if (role == kDump) at("dumping");     /* every thread is traced */
    if (role == kRestore) at("creating"); /* of the process there is nothing yet but its number */
  }
  return next(folder, path, flags, mode);
}

int openat(int folder, const char* path, int flags, ...) __attribute__((alias("openat64")));
