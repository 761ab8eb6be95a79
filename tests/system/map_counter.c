// A program that knows nothing of Gobelins: adds to a number in the second page of a file by a
// shared mapping, moves and shrinks the mapping meanwhile, and has it written to the disk. Its
// child, if there are GENERATIONS, does so by the mapping it has from its parent, and has a child
// itself. map_counter FILE ADDITIONS [GENERATIONS]. Status: 0, or the errno of the call that
// failed.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

// The child of the process that returns: -1: there is none, as there is none of the last
// generation.
static pid_t descend(long generations) {
  pid_t child = -1;
  while (generations-- > 0 && (child = fork()) == 0) child = -1;
  return child;
}

// Whether the kernel may store a byte there for this process.
static int is_read_only(void* place) {
  int ends[2];
  if (pipe(ends) != 0 || write(ends[1], "", 1) != 1) return 0;
  const int refused = read(ends[0], place, 1) < 0 && errno == EFAULT;
  close(ends[0]);
  close(ends[1]);
  return refused;
}

int main(int count, char** words) {
  if (count < 3 || count > 4) return 2;
  const int fd = open(words[1], O_RDWR);
  if (fd < 0) return errno;
  char* bytes = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
  if (bytes == MAP_FAILED) return errno;
  bytes = mremap(bytes, 4096, 8192, MREMAP_MAYMOVE);
  if (bytes == MAP_FAILED) return errno;
  // A child has these rights, too.
  if (mprotect(bytes + 4096, 4096, PROT_READ | PROT_WRITE) != 0) return errno;
  close(fd);
  const pid_t child = descend(count == 4 ? atol(words[3]) : 0);
  if (!is_read_only(bytes)) return EPERM;
  uint64_t* const number = (uint64_t*)(bytes + 4096);
  for (long i = atol(words[2]); i > 0; --i) __atomic_fetch_add(number, 1, __ATOMIC_SEQ_CST);
  if (munmap(bytes, 4096) != 0) return errno;
  if (msync(bytes + 4096, 4096, MS_SYNC) != 0) return errno;
  if (munmap(bytes + 4096, 4096) != 0) return errno;
  int status = 0;
  if (child > 0 && waitpid(child, &status, 0) != child) return errno;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
