// What is in a segment or file that was just linked becomes what its container begins with: it is
// moved into an image, the container's file. Threads that may wait.
#pragma once

#include <cstdint>
#include <functional>

#include "libgob/base/result.h"
#include "libgob/base/unique_fd.h"
#include "libgob/linker/gob_device.h"
#include "libgob/linker/link_table.h"
#include "libgob/linker/linkable.h"

namespace gob {

// The image is in memory. On failure the segment has its bytes.
Result<UniqueFd> take_in_segment(const GobDevice& device, std::uint32_t link, std::uint64_t pages);

// The image is an unnamed file beside `file`, in which there has to be room for a copy. Programs go on
// until the page that they want is taken. `retry`: requests that wait should be looked at again.
// On failure of the disk bytes may be lost.
Result<UniqueFd> take_in_file(const GobDevice& device, LinkTable& links, std::uint32_t link,
                              const Linkable& file, const std::function<void()>& retry);

}  // namespace gob
