// What a host does for each action, and the rules it relies on.
#include <algorithm>

#include "tests/sim/host_model.h"

namespace gob::sim {
namespace {

std::string page_text(const char* what, unsigned page) {
  return std::string(what) + " of page " + std::to_string(page);
}

}  // namespace

// Calls f(page index) for each page of an action; a page that no container has is a broken rule.
template <class F>
void NodeModel::each(PageSet pages, const char* what, Effects& fx, F&& f) {
  if (pages.empty()) fx.fail(std::string(what) + " of no page");
  for_each_page(pages, [&](PageId id) {
    if (!geometry_.contains(id)) {
      fx.fail(std::string(what) + " of a page nobody touched: " + to_text(pages));
      return;
    }
    f(geometry_.index(id));
  });
}

// A program that was just granted the page has its turn before it goes (invariant 5).
void NodeModel::check_turn(unsigned page, const char* what, Effects& fx) const {
  if (holds_[page] != 0) fx.fail(page_text(what, page) + " that a program here still has to use");
}

void NodeModel::perform(const action::Send& a, const Packet*, Effects& fx) {
  const Message& message = a.message;
  Effects::Sent sent{a.to, {message, {}}};
  if (a.to == core_.config().self) fx.fail("a message to the node itself left the core");
  if (a.to.value() >= geometry_.nodes) fx.fail("a message to a node that does not exist");
  if (message.type != MessageType::kMarker && message.type != MessageType::kReportEnd) {
    each(message.pages, name_of(message.type), fx, [&](unsigned page) {
      Frame& frame = frames_[page];
      if (message.type == MessageType::kInvalidateAck && !message.dirty && frame.present)
        fx.fail(page_text("acknowledged invalidation", page) + " that programs here still have");
      if (!carries_bytes(message)) return;
      if (!frame.present) fx.fail(page_text("send", page) + " whose frame is absent");
      sent.packet.bytes.push_back(frame.value);
      if (message.payload == Payload::kMove) {
        check_turn(page, "move", fx);
        drop(page, fx);
      } else if (frame.rights == Access::kWrite) {
        fx.fail(page_text("copy", page) + " that programs may still write");
      }
    });
  }
  fx.sent.push_back(std::move(sent));
}

void NodeModel::perform(const action::Install& a, const Packet* payload, Effects& fx) {
  const bool has_bytes = payload != nullptr && carries_bytes(payload->message);
  each(a.pages, "install", fx, [&](unsigned page) {
    Frame& frame = frames_[page];
    if (frame.present) fx.fail(page_text("install", page) + " over a frame that is in use");
    Value value = 0;
    if (!a.zero) {
      const PageId id = geometry_.page(page);
      if (!has_bytes || payload->message.pages.container != id.container ||
          !payload->message.pages.contains(id.page)) {
        fx.fail(page_text("install", page) + " whose bytes did not come");
        return;
      }
      value = payload->bytes[payload->message.pages.rank(id.page)];
    }
    if (!frame.present) ++present_;
    frame = {value, true, a.access};
    fx.touched.push_back(page);
    if (a.access != Access::kNone) wake(page, fx);
  });
}

void NodeModel::perform(const action::Map& a, const Packet*, Effects& fx) {
  each(a.pages, "map", fx, [&](unsigned page) {
    Frame& frame = frames_[page];
    if (!frame.present) fx.fail(page_text("map", page) + " whose frame is absent");
    frame.rights = std::max(frame.rights, a.access);
    fx.touched.push_back(page);
    wake(page, fx);
  });
}

void NodeModel::perform(const action::Downgrade& a, const Packet*, Effects& fx) {
  each(a.pages, "downgrade", fx, [&](unsigned page) {
    Frame& frame = frames_[page];
    if (!frame.present) fx.fail(page_text("downgrade", page) + " whose frame is absent");
    if (frame.rights == Access::kWrite) check_turn(page, "downgrade", fx);
    frame.rights = std::min(frame.rights, Access::kRead);
    fx.touched.push_back(page);
  });
}

void NodeModel::perform(const action::Invalidate& a, const Packet*, Effects& fx) {
  each(a.pages, "invalidation", fx, [&](unsigned page) {
    check_turn(page, "invalidation", fx);
    drop(page, fx);
  });
}

void NodeModel::perform(const action::SwapOut& a, const Packet*, Effects& fx) {
  Io io{true, false, false, a.pages, {}};
  each(a.pages, "swap-out", fx, [&](unsigned page) {
    const Frame& frame = frames_[page];
    if (!frame.present) fx.fail(page_text("swap-out", page) + " whose frame is absent");
    if (frame.rights == Access::kWrite)
      fx.fail(page_text("swap-out", page) + " that programs may still write");
    io.values.push_back(frame.value);
  });
  io_.push_back(std::move(io));
  ++fx.io_started;
}

void NodeModel::perform(const action::SwapIn& a, const Packet*, Effects& fx) {
  each(a.pages, "swap-in", fx, [&](unsigned page) {
    if (!slots_[page].kept) fx.fail(page_text("swap-in", page) + " that no slot keeps");
    if (frames_[page].present) fx.fail(page_text("swap-in", page) + " over a frame in use");
    ++present_;
  });
  io_.push_back({false, false, false, a.pages, {}});
  ++fx.io_started;
}

void NodeModel::perform(const action::FreeSwap& a, const Packet*, Effects& fx) {
  each(a.pages, "release", fx, [&](unsigned page) {
    slots_[page] = SwapSlot{};
    fx.touched.push_back(page);
  });
}

void NodeModel::perform(const action::Hold& a, const Packet*, Effects& fx) {
  each(a.pages, "hold", fx, [&](unsigned page) {
    holds_[page] = 1;
    fx.held.push_back(page);
  });
}

void NodeModel::perform(const action::Refuse& a, const Packet*, Effects& fx) {
  if (a.refusal == Refusal::kTimedOut && !expired_) fx.fail("a time-out that no clock asked for");
  each(a.pages, "refusal", fx, [&](unsigned page) {
    const PageId id = geometry_.page(page);
    for (unsigned i = 0; i < threads_.size(); ++i) {
      Thread& thread = threads_[i];
      if (thread.state != Thread::State::kBlocked) continue;
      if (thread.pages.container != id.container || !thread.pages.contains(id.page)) continue;
      fx.refused.push_back({i, page, a.refusal});
      thread.pages.mask &= ~PageSet::of(id).mask;
      if (thread.pages.empty()) thread = Thread{};
    }
  });
}

void NodeModel::perform(const action::DropContainer& a, const Packet*, Effects& fx) {
  for (unsigned page = 0; page < geometry_.pages(); ++page) {
    if (geometry_.page(page).container != a.id) continue;
    drop(page, fx);
    if (!on_device(page)) slots_[page] = SwapSlot{};
  }
  for (Io& io : io_) {
    if (io.pages.container != a.id) continue;
    if (!io.out && !io.dropped) present_ -= io.pages.size();
    io.dropped = true;
  }
}

void NodeModel::perform(const action::Left& a, const Packet*, Effects& fx) {
  if (a.stranded) return;  // the host may end then; this one waits for somebody to come
  fx.left = true;
  if (!empty()) fx.fail("the node says it has left, but keeps pages");
}

void NodeModel::perform(const action::WriteBack& a, const Packet* payload, Effects& fx) {
  Io io{true, true, false, a.pages, {}};
  each(a.pages, "write-back", fx, [&](unsigned page) {
    const Frame& frame = frames_[page];
    const PageId id = geometry_.page(page);
    if (!on_device(page)) fx.fail(page_text("write-back", page) + " of a file that is elsewhere");
    if (a.arrived) {
      const bool came = payload != nullptr && carries_bytes(payload->message) &&
                        payload->message.pages.container == id.container &&
                        payload->message.pages.contains(id.page);
      if (!came) return fx.fail(page_text("write-back", page) + " whose bytes did not come");
      return io.values.push_back(payload->bytes[payload->message.pages.rank(id.page)]);
    }
    if (!frame.present) fx.fail(page_text("write-back", page) + " whose frame is absent");
    if (frame.rights == Access::kWrite)
      fx.fail(page_text("write-back", page) + " that programs may still write");
    io.values.push_back(frame.value);
  });
  io_.push_back(std::move(io));
  ++fx.io_started;
}

void NodeModel::perform(const action::JobDone& a, const Packet*, Effects& fx) {
  each(a.pages, "end of a job", fx, [&](unsigned page) {
    fx.jobs.push_back({page, a.discard, a.refusal});
    if (!a.discard) end_of_write_back(page, a.refusal);
    if (!a.discard || a.refusal != Refusal::kNone) return;
    const PageId id = geometry_.page(page);
    for (const Io& io : io_)
      if (io.out && !io.dropped && io.pages.container == id.container && io.pages.contains(id.page))
        fx.fail(page_text("discard", page) + " that is on its way to the disk");
  });
}

void NodeModel::perform(const action::Serving&, const Packet*, Effects& fx) { fx.serving = true; }

void NodeModel::perform(const action::Violation& a, const Packet*, Effects& fx) {
  fx.fail(std::string("a correct peer, node ") + std::to_string(a.from.value()) +
          ", is blamed for: " + a.rule + " (" + to_text(Packet{a.message, {}}) + ")");
}

}  // namespace gob::sim
