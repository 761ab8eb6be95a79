// CoreDriver: one real core among scripted peers. Events go in, actions come back as text, and
// after every step the core must keep its own rules, be deterministic, and be a regular value. Test
// support, single-threaded.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include "libgob/protocol/core.h"
#include "tests/protocol/render.h"

namespace gob::test {

inline constexpr ContainerId kContainer{1};
inline constexpr std::uint64_t kContainerPages = 4096;

constexpr NodeId node(unsigned number) { return NodeId{static_cast<std::uint16_t>(number)}; }
constexpr PageId page(std::uint64_t index) { return {kContainer, PageIndex{index}}; }
// Pages of one stripe.
PageSet pages(std::initializer_list<std::uint64_t> indices);
PageSet run(std::uint64_t first, std::uint64_t last);
// The first page that `manager` of `nodes` manages, plus `offset` in the same stripe.
std::uint64_t page_of_manager(unsigned manager, unsigned nodes, std::uint64_t offset = 0);
// A view of all `nodes`, without those of `dead`, which are its one loss.
View view_of(std::uint64_t epoch, unsigned nodes, std::initializer_list<unsigned> dead = {});

// A message of the epoch that the driver is in; further fields by `edit`.
using Edit = std::function<void(Message&)>;
Message message(MessageType type, PageSet about, const Edit& edit = {});

class CoreDriver {
 public:
  struct Options {
    unsigned self = 0;
    unsigned nodes = 4;
    std::uint64_t budget_frames = 1u << 16;
    std::uint64_t low_water_frames = 64;
    std::uint64_t high_water_frames = 128;
    bool swap = true;
    bool hold_grants = true;
    bool create_ahead = true;
    NodeId home = kNoNode;  // the container is a file there
    bool serving = true;    // bring the first view and the container up
  };

  CoreDriver() : CoreDriver(Options()) {}
  explicit CoreDriver(const Options& options);

  // --- events; each returns the text of the actions
  std::string step(const Event& event);
  std::string deliver(unsigned from, Message message);
  std::string touch(PageSet wanted, Access access, std::uint64_t ahead_mask = 0);
  std::string read(std::uint64_t index) { return touch(PageSet::of(page(index)), Access::kRead); }
  std::string write(std::uint64_t index) { return touch(PageSet::of(page(index)), Access::kWrite); }
  std::string expire(std::uint64_t index);
  std::string hold_expired(std::uint64_t index);
  std::string flush(std::uint64_t index);
  std::string swapped_out(std::uint64_t index, bool ok);
  std::string swapped_in(std::uint64_t index, bool ok);
  std::string leave() { return step(event::Leave{}); }
  std::string remove() { return step(event::RemoveContainer{kContainer}); }
  std::string new_view(const View& view) { return step(event::NewView{view}); }
  // Markers, and with `reports_too` the ends of reports, of all other members and departing nodes.
  std::string finish_view(bool reports_too = true);

  // --- scripts: this node comes to hold a page that node 'manager' manages
  void give_read(std::uint64_t index, unsigned owner);
  void give_write(std::uint64_t index);
  // Every node that the last step offered a page to refuses it, until none is left to ask; returns
  // the text of the last step.
  std::string refuse_injections();

  [[nodiscard]] const Core& core() const { return core_; }
  [[nodiscard]] const Actions& last_actions() const { return last_; }
  [[nodiscard]] PageState state(std::uint64_t index) const {
    return core_.local(page(index)).state;
  }
  [[nodiscard]] Situation situation(std::uint64_t index) const;
  [[nodiscard]] unsigned manager_of(std::uint64_t index) const;
  // The room that the last message sent spoke of.
  [[nodiscard]] std::uint32_t last_hint() const;
  // The rules of the violations of the last step.
  [[nodiscard]] std::vector<std::string> violations() const;

  Names names = numbered();
  // Hint of free memory that delivered messages carry unless they set one.
  std::uint32_t peer_room = 0;

 private:
  Core core_;
  Actions last_;
};

}  // namespace gob::test
