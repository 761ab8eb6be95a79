#include "libgob/container/container_codec.h"

#include <set>
#include <utility>

#include "libgob/container/container.pb.h"

namespace gob {

void to_proto(const ContainerRecord& record, peer::ContainerRecord& proto) {
  proto.set_id(record.info.id.value());
  proto.set_name(record.name);
  proto.set_size_bytes(record.size_bytes);
  proto.set_created_epoch(record.info.created.value());
  proto.set_home(record.info.home.value());
  proto.set_kind(static_cast<std::uint32_t>(record.kind));
  proto.set_source(record.source);
  proto.set_mode(record.mode);
  proto.set_uid(record.uid);
  proto.set_gid(record.gid);
  proto.set_created_unix_ms(record.created_unix_ms);
  proto.mutable_creator()->set_node(record.creator.node.value());
  proto.mutable_creator()->set_incarnation(record.creator.incarnation);
  proto.mutable_creator()->set_sequence(record.creator.sequence);
}

Result<ContainerRecord> from_proto(const peer::ContainerRecord& proto) {
  const auto is_node = [](std::uint32_t node) { return node < kMaxNodes; };
  if (!is_node(proto.creator().node()) ||
      (!is_node(proto.home()) && proto.home() != kNoNode.value()))
    return make_error(ErrorCode::kProtocol, "a container record names a node that cannot be");
  ContainerRecord record;
  record.info.id = ContainerId{proto.id()};
  record.info.pages = pages_of(proto.size_bytes());
  record.info.created = Epoch{proto.created_epoch()};
  record.info.home = NodeId{static_cast<std::uint16_t>(proto.home())};
  record.name = proto.name();
  record.size_bytes = proto.size_bytes();
  if (proto.kind() > static_cast<std::uint32_t>(kLastContainerKind))
    return make_error(ErrorCode::kProtocol, "a container record is of no known kind");
  record.kind = static_cast<ContainerKind>(proto.kind());
  record.source = proto.source();
  record.mode = proto.mode();
  record.uid = proto.uid();
  record.gid = proto.gid();
  record.created_unix_ms = proto.created_unix_ms();
  record.creator = {NodeId{static_cast<std::uint16_t>(proto.creator().node())},
                    proto.creator().incarnation(), proto.creator().sequence()};
  if (Status s = check_name(record.name); !s) return s.error();
  if (Status s = check_kind(record); !s) return s.error();
  if (Status s = check_mode(record.mode); !s) return s.error();
  return record;
}

std::string encode_table(const TableState& state) {
  peer::ContainerTable proto;
  proto.set_version(state.version);
  proto.set_last_id(state.last_id);
  for (const ContainerRecord& record : state.records) to_proto(record, *proto.add_records());
  return proto.SerializeAsString();
}

Result<TableState> decode_table(const std::string& bytes) {
  const auto bad = [](const char* why) {
    return make_error(ErrorCode::kProtocol, std::string("a container table from a peer ") + why);
  };
  peer::ContainerTable proto;
  if (!proto.ParseFromString(bytes)) return bad("cannot be decoded");
  if (static_cast<std::size_t>(proto.records_size()) > kMaxContainers) return bad("is too long");
  if (proto.last_id() > kMaxContainerId) return bad("has ids beyond the last");
  TableState state;
  state.version = proto.version();
  state.last_id = proto.last_id();
  std::set<std::string> names;
  std::uint32_t previous = 0;
  for (const peer::ContainerRecord& each : proto.records()) {
    auto record = from_proto(each);
    if (!record) return record.error();
    if (each.id() <= previous || each.id() > proto.last_id()) return bad("has ids out of order");
    if (!names.insert(each.name()).second) return bad("has a name twice");
    previous = each.id();
    state.records.push_back(std::move(*record));
  }
  return state;
}

}  // namespace gob
