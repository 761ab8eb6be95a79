#include "libgob/linker/stream_detector.h"

#include <algorithm>

namespace gob {

StreamDetector::StreamDetector(ContainerId container, PageIndex first, std::uint64_t pages,
                               unsigned max_window)
    : container_(container),
      limit_(first.value() + pages),
      max_window_(std::min(max_window, kStripePages)) {}

StreamDetector::Advice StreamDetector::on_fault(PageIndex page, Access access) {
  if (max_window_ == 0) return {};
  const std::uint64_t here = page.value();
  ++faults_;
  Stream& stream = find(here, access);
  const bool known = stream.used != 0;
  stream.used = faults_;
  if (!known) {
    // One fault is no stream. If the next page follows, it is.
    stream.begin = here;
    stream.end = here + 1;
    stream.marker = stream.end;
    stream.access = access;
    return {};
  }
  if (here == stream.end) {  // nothing was asked for yet, or the program outran it
    stream.begin = here;
    return ask(stream, here + 1, false);
  }
  if (here < stream.marker) return {};  // a page that was asked for, and is not here yet
  stream.begin = here;
  return ask(stream, stream.end, true);
}

// The stream that a fault belongs to; a free one (used == 0) if it belongs to none.
StreamDetector::Stream& StreamDetector::find(std::uint64_t page, Access access) {
  Stream* oldest = &streams_[0];
  for (Stream& stream : streams_) {
    if (stream.used != 0 && stream.access == access && page >= stream.begin && page <= stream.end)
      return stream;
    if (stream.used < oldest->used) oldest = &stream;
  }
  *oldest = Stream{};
  return *oldest;
}

StreamDetector::Advice StreamDetector::ask(Stream& stream, std::uint64_t from, bool ahead) {
  stream.window = std::min(std::max(stream.window * 2, kFirstWindow), max_window_);
  const std::uint64_t end = end_of_run(from, stream.window);
  stream.end = end;
  // Ahead of the program: its first step into the run asks for the next. Otherwise the program is
  // here already, and gets some way before it faults again.
  stream.marker = ahead ? from : from + (end - from) / 2;
  Advice advice;
  while (from < end) {
    const std::uint64_t stripe = from / kStripePages;
    const std::uint64_t begin_of_stripe = stripe * kStripePages;
    const std::uint64_t until = std::min(end, begin_of_stripe + kStripePages);
    Run& run = advice.runs[advice.count++];
    run.pages = {container_, stripe,
                 (~std::uint64_t{0} >> (kStripePages - (until - from)))
                     << (from - begin_of_stripe)};
    if (run.pages.contains(PageIndex{stream.marker}))
      run.unmapped = PageSet::of({container_, PageIndex{stream.marker}}).mask;
    from = until;
  }
  return advice;
}

// A run ends with its stripe rather than a little after it, so that the longest runs are whole
// stripes: one message each.
std::uint64_t StreamDetector::end_of_run(std::uint64_t from, unsigned window) const {
  if (from >= limit_) return from;
  const std::uint64_t end = std::min(from + window, limit_);
  const std::uint64_t boundary = (from / kStripePages + 1) * kStripePages;
  if (end > boundary && boundary - from >= window / 2) return boundary;
  return end;
}

}  // namespace gob
