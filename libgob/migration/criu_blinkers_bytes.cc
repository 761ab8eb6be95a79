// The library itself, inside gobmigrate: it has to be found in whatever view of files CRIU runs.
#include "libgob/migration/hidden_areas.h"

asm(".pushsection .rodata\n"
    ".balign 16\n"
    "gob_criu_blinkers: .incbin \"" GOB_CRIU_BLINKERS_FILE "\"\n"
    "gob_criu_blinkers_end:\n"
    ".popsection\n");
extern "C" const char gob_criu_blinkers[];
extern "C" const char gob_criu_blinkers_end[];

namespace gob::migration {

std::string_view blinkers_library() {
  return {gob_criu_blinkers, static_cast<std::size_t>(gob_criu_blinkers_end - gob_criu_blinkers)};
}

}  // namespace gob::migration
