// Container records and tables as protobuf bytes (container.proto), checked on the way in.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "libgob/base/result.h"
#include "libgob/container/container_record.h"

namespace gob {

namespace peer {
class ContainerRecord;
}

struct TableState {
  std::uint64_t version = 0;
  std::uint32_t last_id = 0;
  std::vector<ContainerRecord> records;  // ascending by id
  friend bool operator==(const TableState&, const TableState&) = default;
};

std::string encode_table(const TableState& state);
Result<TableState> decode_table(const std::string& bytes);

void to_proto(const ContainerRecord& record, peer::ContainerRecord& proto);
// Does not check what the orderer has not yet decided: id and epoch.
Result<ContainerRecord> from_proto(const peer::ContainerRecord& proto);

}  // namespace gob
