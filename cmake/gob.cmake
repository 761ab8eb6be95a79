# Flags and helpers shared by all folders.

add_library(gob_flags INTERFACE)
target_include_directories(gob_flags INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
target_compile_options(gob_flags INTERFACE
  -Wall -Wextra -Wconversion -Wshadow -Werror -Werror=switch -fno-omit-frame-pointer)
target_compile_definitions(gob_flags INTERFACE GOB_VERSION="${PROJECT_VERSION}")

set(GOB_SANITIZE "" CACHE STRING "Value for -fsanitize= (for example: thread, or address,undefined)")
if(GOB_SANITIZE)
  target_compile_options(gob_flags INTERFACE -fsanitize=${GOB_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(gob_flags INTERFACE -fsanitize=${GOB_SANITIZE})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # gcc reports false positives from inlined library code under the sanitizers.
    target_compile_options(gob_flags INTERFACE -Wno-maybe-uninitialized -Wno-tsan)
  endif()
endif()

# gob_library(NAME SOURCES... DEPS targets...): one static library for each folder of libgob.
function(gob_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC gob_flags ${ARG_DEPS})
endfunction()

# gob_test(NAME SOURCES... DEPS targets... [TIMEOUT s] [LABELS ...] [RUN_SERIAL]): one GoogleTest program.
function(gob_test name)
  cmake_parse_arguments(ARG "RUN_SERIAL" "TIMEOUT" "SOURCES;DEPS;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE gob_flags ${ARG_DEPS} GTest::gtest GTest::gmock GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS};${GOB_TEST_LABELS}")
  if(ARG_RUN_SERIAL)
    set_tests_properties(${name} PROPERTIES RUN_SERIAL ON)
  endif()
endfunction()

# An emulated machine takes one processor and is slow enough as it is; programs in it keep time limits.
# So one at a time, first of all tests, and beside it, by their costs, those that only compute, on one
# processor each.
set(GOB_BESIDE_GUESTS 1000)
function(gob_emulated name)
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 RESOURCE_LOCK guest COST 2000)
endfunction()
