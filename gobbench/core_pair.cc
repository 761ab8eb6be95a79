#include "gobbench/core_pair.h"

namespace gob::bench {
namespace {

CoreConfig config_of(std::uint16_t node) {
  CoreConfig config;
  config.self = NodeId{node};
  config.cluster_size = 2;
  config.hold_grants = false;  // the host's clock is not what is measured
  return config;
}

}  // namespace

CorePair::CorePair() : cores_{Core(config_of(0)), Core(config_of(1))} {
  View view;
  view.epoch = Epoch{1};
  view.members = {NodeId{0}, NodeId{1}};
  for (unsigned node = 0; node < cores_.size(); ++node) {
    step(node, event::AddContainer{{kContainer, kPages, Epoch{1}, kNoNode}});
    step(node, event::NewView{view});
  }
  run();
}

void CorePair::touch(unsigned node, PageIndex page, Access access) {
  step(node, event::Touch{PageSet::of({kContainer, page}), access, 0});
  run();
}

bool CorePair::has(unsigned node, PageIndex page, Access access) const {
  const PageState state = cores_[node].local({kContainer, page}).state;
  return access == Access::kWrite ? state == PageState::kWrite : is_readable(state);
}

void CorePair::step(unsigned node, const Event& event) {
  actions_.clear();
  cores_[node].step(event, actions_);
  for (const Action& action : actions_)
    if (const auto* send = std::get_if<action::Send>(&action))
      in_flight_.emplace_back(
          send->to.value(),
          event::Deliver{NodeId{static_cast<std::uint16_t>(node)}, send->message});
}

void CorePair::run() {
  while (!in_flight_.empty()) {
    const auto [to, delivery] = in_flight_.front();
    in_flight_.pop_front();
    step(to, delivery);
  }
}

}  // namespace gob::bench
