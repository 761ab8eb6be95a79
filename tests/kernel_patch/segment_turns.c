/* segment_turns KEY RANK ROUNDS: one of two programs that take turns to add to words of a System V
 * segment, in all its pages, and see what the other has done. It knows nothing of Gobelins.
 * segment_turns KEY make BYTES: makes the segment. segment_turns KEY write PAGE: writes to a page. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/shm.h>

int main(int argc, char **argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: segment_turns KEY RANK ROUNDS | KEY make BYTES | KEY write PAGE\n");
    return 2;
  }
  const key_t key = (key_t)strtol(argv[1], NULL, 0);
  if (strcmp(argv[2], "make") == 0) {
    if (shmget(key, strtoul(argv[3], NULL, 0), IPC_CREAT | IPC_EXCL | 0600) >= 0) return 0;
    perror("segment_turns: cannot make the segment");
    return 1;
  }
  const unsigned long rank = strtoul(argv[2], NULL, 0);
  const unsigned long rounds = strtoul(argv[3], NULL, 0);
  const int id = shmget(key, 0, 0);
  struct shmid_ds status;
  volatile unsigned long *const words = id < 0 ? NULL : shmat(id, NULL, 0);
  if (id < 0 || words == (void *)-1 || shmctl(id, IPC_STAT, &status) != 0) {
    perror("segment_turns: cannot attach the segment");
    return 1;
  }
  if (strcmp(argv[2], "write") == 0) {
    words[rounds * 512] = 1;
    return 0;
  }
  const unsigned long pages = status.shm_segsz / 4096;
  for (unsigned long round = 0; round < rounds; ++round) {
    const unsigned long turn = 2 * round + rank;
    while (words[0] != turn) __builtin_ia32_pause();
    for (unsigned long page = 1; page < pages; ++page) {
      volatile unsigned long *const word = &words[page * 512];
      if (*word != turn) {
        fprintf(stderr, "segment_turns: page %lu has %lu in turn %lu\n", page, *word, turn);
        return 1;
      }
      *word = turn + 1;
    }
    words[0] = turn + 1;
  }
  return 0;
}
