// What the memberships of two nodes say to each other. Links are FIFO and lose nothing while they
// are up. docs/MEMBERSHIP.md tells the protocol; peer.proto is the form on the wire.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "libgob/membership/view_record.h"

namespace gob {

// A view somebody proposed, with the merged container table that goes with it.
struct Proposal {
  Ballot ballot = 0;  // the latest under which it was proposed
  Slot base;
  ViewRecord record;
  std::string blob;
  friend bool operator==(const Proposal&, const Proposal&) = default;
};

namespace membership {

// Where the sender stands; sent when a link comes up and whenever it changes.
struct Status {
  Slot view;                  // all zero: in none, and so glad to join one
  Epoch serving;              // the latest epoch whose directory the sender has rebuilt
  bool leaving = false;       // holds no page any more and wants to go
  std::vector<Member> reach;  // to whom its links are whole, ascending
  friend bool operator==(const Status&, const Status&) = default;
};
// Proposer -> members of `base`: take part in no older proposal any more; tell me all you know.
struct Prepare {
  Ballot ballot = 0;
  Slot base;
  friend bool operator==(const Prepare&, const Prepare&) = default;
};
struct Promise {
  Ballot ballot = 0;
  std::optional<Proposal> accepted;  // the last proposal for this slot the sender accepted
  std::vector<Member> dead;          // whose death it has proof of, ascending
  std::vector<Member> fallen;        // those of them it was in touch with until then
  std::string blob;                  // its container table, which stands still from now on
  friend bool operator==(const Promise&, const Promise&) = default;
};
// I promised a later ballot.
struct Nack {
  Ballot ballot = 0;
  Ballot promised = 0;
  friend bool operator==(const Nack&, const Nack&) = default;
};
struct Accept {
  Proposal proposal;
  friend bool operator==(const Accept&, const Accept&) = default;
};
struct Accepted {
  Ballot ballot = 0;
  friend bool operator==(const Accepted&, const Accepted&) = default;
};
// The proposal is chosen: the receiver's next view.
struct Install {
  Proposal proposal;
  friend bool operator==(const Install&, const Install&) = default;
};
// The cluster has gone on to `view` without the receiver.
struct Excluded {
  Slot view;
  friend bool operator==(const Excluded&, const Excluded&) = default;
};

}  // namespace membership

using MembershipMessage = std::variant<membership::Status, membership::Prepare, membership::Promise,
                                       membership::Nack, membership::Accept, membership::Accepted,
                                       membership::Install, membership::Excluded>;

}  // namespace gob
