# find_package(Gobelins) gives Gobelins::gob, the shared library, and Gobelins::gob_static.
include(${CMAKE_CURRENT_LIST_DIR}/GobelinsTargets.cmake)
