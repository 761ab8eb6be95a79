// Text of protocol messages, actions and of a core's view of one page: what the tests of this
// folder and the table in docs/PROTOCOL.md compare. Test support, no thread affinity.
#pragma once

#include <functional>
#include <string>

#include "libgob/protocol/core.h"

namespace gob::test {

// How nodes and pages are called.
struct Names {
  std::function<std::string(NodeId)> node;
  bool pages = true;  // name the pages; the table of the documentation speaks of one page only
};
// Nodes as numbers.
Names numbered();

std::string type_name(MessageType type);                               // "ForwardGrab"
std::string state_name(PageState state);                               // "SwappingOut"
std::string refusal_name(Refusal refusal);                             // "TimedOut"
std::string access_name(Access access);                                // "read"
std::string pages_text(PageSet pages);                                 // "0-3,7"
std::string message_text(const Message& message, const Names& names);  // "Grant 3 (move, confirm)"

// Actions in order, joined by "; ", or "-" for none. A Send is "Page 3 (copy, confirm) to 2".
std::string actions_text(const Actions& actions, const Names& names);

// The parts of a core's content that concern one page, each in words; empty where there is nothing.
struct Situation {
  std::string page;         // "Read held flushing"
  std::string request;      // "asked Grab", "granted, 2 acks missing", "parked read"
  std::string entry;        // "owner 2, copies 1 2"
  std::string transaction;  // "Get for 2, 1 queued"
  unsigned deferred = 0;    // messages that wait for the page
};
Situation situation_of(const Core& core, PageId page, const Names& names);

}  // namespace gob::test
