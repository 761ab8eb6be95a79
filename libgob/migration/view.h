// What a migrant will see of the file system at its target: for each file that it uses, whether the
// target has it, and which folders of other nodes have to cover the target's own. Pure but for
// looks at the file system; any thread.
#pragma once

#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/migration/migration.pb.h"

namespace gob::migration {

// This node, as far as files go.
struct Place {
  std::string node;
  std::string mount;  // where its gobd shows attached files; empty: nowhere
};

// Looks at this node's files. The error says which file cannot be reached here, why, and what to
// do.
Result<Ready> plan_view(const Begin& begin, const Place& here);

// One mount in the migrant's namespace: `from` appears at `to`. In the order in which to make them.
struct Bind {
  std::string from;
  std::string to;
  bool operator==(const Bind&) const = default;
};
std::vector<Bind> binds_of(const View& view, const Place& here);

// In words, for people at the source.
std::string describe(Way way);

}  // namespace gob::migration
