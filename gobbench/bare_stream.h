// What a stream of pages costs with no protocol behind it: the same kernel calls, in the same
// places, between processes that ask for nothing and decide nothing.
#pragma once

#include <cstdint>

#include "gobbench/tcp_pair.h"

namespace gob::bench {

// The holder, stripe by stripe: write-protects the pages, which are mapped, reads them out of their
// frames, sends them. The receiver puts each stripe into the mapping of another process in one
// UFFDIO_COPY, and that process reads and checks every word. Bytes a second, until the last word is
// read. `bytes`: whole pages.
[[nodiscard]] Result<double> bare_stream(const TcpPlaces& places, std::uint64_t bytes);

}  // namespace gob::bench
