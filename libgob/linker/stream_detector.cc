#include "libgob/linker/stream_detector.h"

#include <algorithm>

namespace gob {

StreamDetector::StreamDetector(ContainerId container, PageIndex first, std::uint64_t pages,
                               unsigned max_window)
    : container_(container),
      limit_(first.value() + pages),
      max_window_(std::min(max_window, kMaxWindow)) {}

StreamDetector::Advice StreamDetector::on_fault(PageIndex page, Access access) {
  if (max_window_ == 0) return {};
  const std::uint64_t here = page.value();
  ++faults_;
  Stream& stream = find(here, access);
  const bool known = stream.used != 0;
  stream.used = faults_;
  if (!known) {
    stream.begin = here;
    stream.end = here + 1;
    stream.marker = stream.end;
    stream.in_a_row = 1;
    stream.access = access;
    return {};
  }
  if (here == stream.end) {  // nothing was asked for yet, or the program outran it
    stream.begin = here;
    stream.end = here + 1;
    stream.marker = stream.end;
    if (stream.window == 0 && ++stream.in_a_row < patience(access)) return {};
    return ask(stream, false);
  }
  if (here < stream.marker) return {};  // a page that was asked for, and is not here yet
  stream.begin = here;
  unsigned& needed = patience(access);
  needed = std::max(needed / 2, kMinPatience);
  return ask(stream, true);
}

void StreamDetector::on_taken(PageIndex page) {
  for (Stream& stream : streams_) {
    const bool before_its_turn = stream.used != 0 && stream.window != 0 &&
                                 page.value() > stream.begin && page.value() < stream.end;
    if (!before_its_turn) continue;
    unsigned& needed = patience(stream.access);
    needed = std::min(needed * 2, kMaxPatience);
    stream = Stream{};
  }
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

StreamDetector::Advice StreamDetector::ask(Stream& stream, bool ahead) {
  const unsigned longest = std::min(max_window_, kStripePages);
  stream.window = std::min(std::max(stream.window * 2, kFirstWindow), longest);
  Advice advice;
  const std::uint64_t from = stream.end;
  stream.end = end_of_run(from, stream.window);
  if (!ahead) {
    // The program is here already, and gets some way before it faults again.
    stream.marker = from + (stream.end - from) / 2;
    add(advice, from, stream.end, stream.marker);
    return advice;
  }
  add(advice, from, stream.end, from);
  // The next marker is that of the run behind this one: runs of full length begin with a stripe.
  stream.marker = std::min((stream.begin / kStripePages + 1) * kStripePages, from);
  const bool aligned = stream.end % kStripePages == 0;
  if (stream.window == kStripePages && aligned &&
      stream.end + kStripePages <= stream.begin + max_window_) {
    const std::uint64_t second = stream.end;
    stream.end = end_of_run(second, stream.window);
    add(advice, second, stream.end, second);
  }
  return advice;
}

void StreamDetector::add(Advice& advice, std::uint64_t from, std::uint64_t end,
                         std::uint64_t marker) const {
  while (from < end) {
    const std::uint64_t stripe = from / kStripePages;
    const std::uint64_t begin_of_stripe = stripe * kStripePages;
    const std::uint64_t until = std::min(end, begin_of_stripe + kStripePages);
    Run& run = advice.runs[advice.count++];
    run.pages = {container_, stripe,
                 (~std::uint64_t{0} >> (kStripePages - (until - from)))
                     << (from - begin_of_stripe)};
    if (run.pages.contains(PageIndex{marker}))
      run.unmapped = PageSet::of({container_, PageIndex{marker}}).mask;
    from = until;
  }
}

// The longest runs are whole stripes, one message each; a shorter one ends with its stripe rather
// than a little after it.
std::uint64_t StreamDetector::end_of_run(std::uint64_t from, unsigned window) const {
  if (from >= limit_) return from;
  const std::uint64_t end = std::min(from + window, limit_);
  const std::uint64_t boundary = (from / kStripePages + 1) * kStripePages;
  if (end > boundary && (window == kStripePages || boundary - from >= window / 2)) return boundary;
  return end;
}

}  // namespace gob
