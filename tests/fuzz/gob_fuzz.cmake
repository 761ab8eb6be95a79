# gob_fuzz(NAME SOURCES... LIBRARY_SOURCES... DEPS targets... CORPUS dir [LIBS ...])
# Two tests of one LLVMFuzzerTestOneInput (in SOURCES):
#   NAME_random   the project's compiler and tests/fuzz/random_driver.cc: the same inputs in each run
#   NAME          libFuzzer with ASan and UBSan, where clang++ has it: a few seconds of a series of
#                 inputs that hardly differs between runs (by addresses), so that a run judges the
#                 change and not its luck. To search on: the program NAME in the build folder, with a
#                 folder for what it finds, and without -seed.
#                 LIBRARY_SOURCES are what DEPS are made of, since they must be instrumented as well
find_program(GOB_CLANGXX NAMES clang++ clang++-19 clang++-16 clang++-14)
if(GOB_CLANGXX)
  file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/probe.cc
    "extern \"C\" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }\n")
  execute_process(
    COMMAND ${GOB_CLANGXX} -fsanitize=fuzzer,address,undefined probe.cc -o probe
    WORKING_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}
    RESULT_VARIABLE GOB_LIBFUZZER_MISSING OUTPUT_QUIET ERROR_QUIET)
endif()
if(NOT GOB_CLANGXX OR GOB_LIBFUZZER_MISSING)
  set(GOB_LIBFUZZER OFF)
  message(STATUS "No clang++ with libFuzzer (Debian: clang libclang-rt-14-dev): the fuzz targets run "
    "on the random driver only")
else()
  set(GOB_LIBFUZZER ON)
endif()

function(gob_fuzz name)
  cmake_parse_arguments(ARG "" "CORPUS" "SOURCES;LIBRARY_SOURCES;DEPS;LIBS" ${ARGN})
  add_executable(${name}_random ${ARG_SOURCES} random_driver.cc)
  target_link_libraries(${name}_random PRIVATE gob_flags ${ARG_DEPS})
  add_test(NAME ${name}_random COMMAND ${name}_random ${ARG_CORPUS} 20000)
  set_tests_properties(${name}_random PROPERTIES TIMEOUT 120 LABELS fuzz)

  if(GOB_LIBFUZZER)
    list(TRANSFORM ARG_SOURCES PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/)
    set(binary ${CMAKE_CURRENT_BINARY_DIR}/${name})
    add_custom_command(OUTPUT ${binary}
      COMMAND ${GOB_CLANGXX} -std=c++20 -O1 -g1 -fsanitize=fuzzer,address,undefined
              -fno-sanitize-recover=all -DGOB_VERSION="${PROJECT_VERSION}"
              -I${PROJECT_SOURCE_DIR} -isystem ${PROJECT_BINARY_DIR}/generated
              ${ARG_SOURCES} ${ARG_LIBRARY_SOURCES} -o ${binary} ${ARG_LIBS}
      DEPENDS ${ARG_SOURCES} ${ARG_LIBRARY_SOURCES} ${ARG_DEPS}
      COMMENT "Building ${name} with libFuzzer" VERBATIM)
    add_custom_target(${name}_libfuzzer ALL DEPENDS ${binary})
    # As files: into a folder it would write what it finds.
    file(GLOB seeds CONFIGURE_DEPENDS ${ARG_CORPUS}/*)
    list(JOIN seeds "," seeds)
    add_test(NAME ${name}
      COMMAND ${binary} -seed=1 -entropic=0 -max_total_time=5 -max_len=8192 -print_final_stats=1
              -artifact_prefix=${name}- -seed_inputs=${seeds})
    set_tests_properties(${name} PROPERTIES TIMEOUT 120 LABELS fuzz)
  endif()
endfunction()
