#include "tests/protocol/core_driver.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

namespace gob::test {

PageSet pages(std::initializer_list<std::uint64_t> indices) {
  PageSet set;
  for (std::uint64_t index : indices) {
    const PageSet one = PageSet::of(page(index));
    EXPECT_TRUE(set.empty() || set.stripe == one.stripe) << "pages of different stripes";
    set = one.with(set.mask | one.mask);
  }
  return set;
}

PageSet run(std::uint64_t first, std::uint64_t last) {
  PageSet set = PageSet::of(page(first));
  for (std::uint64_t index = first; index <= last; ++index)
    set.mask |= PageSet::of(page(index)).mask;
  return set;
}

View view_of(std::uint64_t epoch, unsigned nodes, std::initializer_list<unsigned> dead) {
  View view;
  view.epoch = Epoch{epoch};
  Loss loss;
  loss.epoch = view.epoch;
  for (unsigned n = 0; n < nodes; ++n) {
    loss.members.push_back(node(n));
    const bool died = std::count(dead.begin(), dead.end(), n) != 0;
    (died ? loss.dead : view.members).push_back(node(n));
  }
  if (dead.size() != 0) view.losses.push_back(loss);
  return view;
}

std::uint64_t page_of_manager(unsigned manager, unsigned nodes, std::uint64_t offset) {
  const View view = view_of(1, nodes);
  for (std::uint64_t stripe = 0;; ++stripe)
    if (view.manager(kContainer, stripe) == node(manager)) return stripe * kStripePages + offset;
}

Message message(MessageType type, PageSet about, const Edit& edit) {
  Message m;
  m.type = type;
  m.pages = about;
  if (edit) edit(m);
  return m;
}

namespace {
CoreConfig config_of(const CoreDriver::Options& options) {
  CoreConfig config;
  config.self = node(options.self);
  config.cluster_size = static_cast<std::uint16_t>(options.nodes);
  config.budget_frames = options.budget_frames;
  config.low_water_frames = options.low_water_frames;
  config.high_water_frames = options.high_water_frames;
  config.swap = options.swap;
  config.hold_grants = options.hold_grants;
  config.create_ahead = options.create_ahead;
  return config;
}
}  // namespace

CoreDriver::CoreDriver(const Options& options) : core_(config_of(options)) {
  if (!options.serving) return;
  step(event::AddContainer{{kContainer, kContainerPages, Epoch{1}, options.home}});
  new_view(view_of(1, options.nodes));
  finish_view();
  EXPECT_EQ(core_.phase(), Core::Phase::kServing);
}

std::string CoreDriver::step(const Event& event) {
  // The same event on a copy must do the same: no hidden state, no address, no order of hashing.
  Core twin = core_;
  EXPECT_TRUE(twin == core_);
  EXPECT_EQ(twin.hash(), core_.hash());
  Actions twin_actions;
  twin.step(event, twin_actions);

  last_.clear();
  core_.step(event, last_);
  const std::string text = actions_text(last_, names);
  EXPECT_EQ(actions_text(twin_actions, names), text);
  EXPECT_TRUE(twin == core_);
  EXPECT_EQ(twin.hash(), core_.hash());
  EXPECT_EQ(core_.check(), "") << "after: " << text;
  return text;
}

std::string CoreDriver::deliver(unsigned from, Message message) {
  if (message.epoch == Epoch{}) message.epoch = core_.view().epoch;
  if (message.free_frames == 0) message.free_frames = peer_room;
  return step(event::Deliver{node(from), message});
}

std::string CoreDriver::touch(PageSet wanted, Access access, std::uint64_t ahead_mask) {
  return step(event::Touch{wanted, access, ahead_mask});
}
std::string CoreDriver::expire(std::uint64_t index) {
  return step(event::Expire{PageSet::of(page(index))});
}
std::string CoreDriver::hold_expired(std::uint64_t index) {
  return step(event::HoldExpired{PageSet::of(page(index))});
}
std::string CoreDriver::flush(std::uint64_t index) {
  return step(event::Flush{PageSet::of(page(index))});
}
std::string CoreDriver::swapped_out(std::uint64_t index, bool ok) {
  return step(event::SwappedOut{PageSet::of(page(index)), ok});
}
std::string CoreDriver::swapped_in(std::uint64_t index, bool ok) {
  return step(event::SwappedIn{PageSet::of(page(index)), ok});
}

std::string CoreDriver::finish_view(bool reports_too) {
  std::string text;
  const View view = core_.view();
  for (const MessageType type : {MessageType::kMarker, MessageType::kReportEnd}) {
    if (type == MessageType::kReportEnd && !reports_too) break;
    for (const auto* nodes : {&view.members, &view.departing})
      for (NodeId n : *nodes)
        if (n != core_.config().self) text = deliver(n.value(), message(type, PageSet{}));
  }
  return text;
}

void CoreDriver::give_read(std::uint64_t index, unsigned owner) {
  read(index);
  deliver(owner, message(MessageType::kPage, PageSet::of(page(index)), [](Message& m) {
            m.payload = Payload::kCopy;
            m.confirm = true;
          }));
  hold_expired(index);
  EXPECT_EQ(state(index), PageState::kRead);
}

void CoreDriver::give_write(std::uint64_t index) {
  write(index);
  if (manager_of(index) != core_.config().self.value())
    deliver(manager_of(index), message(MessageType::kGrant, PageSet::of(page(index)),
                                       [](Message& m) { m.payload = Payload::kZero; }));
  hold_expired(index);
  EXPECT_EQ(state(index), PageState::kWrite);
}

std::string CoreDriver::refuse_injections() {
  for (bool offered = true; offered;) {
    offered = false;
    const Actions actions = last_;
    for (const Action& a : actions) {
      const auto* send = std::get_if<action::Send>(&a);
      if (send == nullptr || send->message.type != MessageType::kInject) continue;
      deliver(send->to.value(), message(MessageType::kInjectReply, send->message.pages));
      offered = true;
    }
  }
  return actions_text(last_, names);
}

Situation CoreDriver::situation(std::uint64_t index) const {
  return situation_of(core_, page(index), names);
}
unsigned CoreDriver::manager_of(std::uint64_t index) const {
  return core_.view().manager(kContainer, index / kStripePages).value();
}

std::uint32_t CoreDriver::last_hint() const {
  for (auto it = last_.rbegin(); it != last_.rend(); ++it)
    if (const auto* send = std::get_if<action::Send>(&*it)) return send->message.free_frames;
  ADD_FAILURE() << "the last step sent nothing";
  return 0;
}

std::vector<std::string> CoreDriver::violations() const {
  std::vector<std::string> rules;
  for (const Action& a : last_)
    if (const auto* violation = std::get_if<action::Violation>(&a))
      rules.emplace_back(violation->rule);
  return rules;
}

}  // namespace gob::test
