# Writes OUTPUT, a header that defines GOBBENCH_COMMIT, if the commit of SOURCE_DIR changed.
execute_process(
  COMMAND git -C ${SOURCE_DIR} describe --always --abbrev=12 --dirty --exclude=*
  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
if(failed)
  set(commit "unknown")
endif()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT "#pragma once\n#define GOBBENCH_COMMIT \"${commit}\"\n")
