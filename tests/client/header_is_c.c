/* gob.h is plain C99, and a C program can go through its whole life with it. */
#include <gob.h>
#include <stdio.h>
#include <string.h>

int main(void) {
  gob_connection* connection = NULL;
  const int error = gob_connect("/nonexistent/gobd.sock", &connection);
  if (error >= 0 || connection != NULL) return 1;
  if (strstr(gob_last_error(), "gobctl cluster up") == NULL) return 2;
  printf("%s: %s\n", gob_strerror(error), gob_last_error());
  return gob_disconnect(connection);
}
