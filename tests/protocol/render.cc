#include "tests/protocol/render.h"

#include <vector>

#include "libgob/protocol/message_name.h"

namespace gob::test {

namespace {

std::string joined(const std::vector<std::string>& parts, const char* separator) {
  std::string text;
  for (const std::string& part : parts) {
    if (!text.empty()) text += separator;
    text += part;
  }
  return text;
}

std::string pages_or_nothing(PageSet pages, const Names& names) {
  return names.pages ? " " + pages_text(pages) : "";
}

std::string acks_text(std::int64_t count) {
  return std::to_string(count) + (count == 1 ? " ack" : " acks");
}

std::string holding_name(Holding holding) {
  switch (holding) {
    case Holding::kExisted:
      return "existed";
    case Holding::kLost:
      return "lost";
    case Holding::kRead:
      return "read";
    case Holding::kSole:
      return "sole";
  }
  return "?";
}

}  // namespace

Names numbered() {
  return {[](NodeId node) { return node == kNoNode ? "nobody" : std::to_string(node.value()); }};
}

std::string type_name(MessageType type) { return to_words(type); }

std::string state_name(PageState state) {
  switch (state) {
    case PageState::kInvalid:
      return "Invalid";
    case PageState::kRead:
      return "Read";
    case PageState::kWrite:
      return "Write";
    case PageState::kStored:
      return "Stored";
    case PageState::kInjecting:
      return "Injecting";
    case PageState::kSwappingOut:
      return "SwappingOut";
    case PageState::kSwapped:
      return "Swapped";
    case PageState::kSwappingIn:
      return "SwappingIn";
  }
  return "?";
}

std::string refusal_name(Refusal refusal) {
  switch (refusal) {
    case Refusal::kNone:
      return "None";
    case Refusal::kSkipped:
      return "Skipped";
    case Refusal::kLost:
      return "Lost";
    case Refusal::kTimedOut:
      return "TimedOut";
    case Refusal::kRemoved:
      return "Removed";
    case Refusal::kNoRoom:
      return "NoRoom";
    case Refusal::kIo:
      return "Io";
    case Refusal::kLeaving:
      return "Leaving";
    case Refusal::kRange:
      return "Range";
  }
  return "?";
}

std::string access_name(Access access) {
  switch (access) {
    case Access::kNone:
      return "nobody";
    case Access::kRead:
      return "read";
    case Access::kWrite:
      return "write";
  }
  return "?";
}

std::string pages_text(PageSet pages) {
  std::vector<std::string> runs;
  for_each_run(pages, [&](PageIndex first, unsigned count) {
    std::string run = std::to_string(first.value());
    if (count > 1) run += "-" + std::to_string(first.value() + count - 1);
    runs.push_back(run);
  });
  return joined(runs, ",");
}

std::string device_name(MessageType type) {
  if (type == MessageType::kInvalidate) return "discard";
  return type == MessageType::kInject ? "to file" : "from file";
}

namespace {
const char* sole_name(MessageType type) {
  if (type == MessageType::kReport) return "foreign";
  return type == MessageType::kSync || type == MessageType::kExists ? "list" : "sole";
}
}  // namespace

std::string message_text(const Message& message, const Names& names) {
  std::vector<std::string> notes;
  switch (message.payload) {
    case Payload::kNone:
      break;
    case Payload::kCopy:
      notes.emplace_back("copy");
      break;
    case Payload::kMove:
      notes.emplace_back("move");
      break;
    case Payload::kZero:
      notes.emplace_back("zero");
      break;
  }
  if (message.type == MessageType::kReport) notes.push_back(holding_name(message.holding));
  if (message.type == MessageType::kInjectReply)
    notes.emplace_back(message.accepted ? "accepted" : "refused");
  if (message.refusal != Refusal::kNone) notes.push_back(refusal_name(message.refusal));
  if (message.acks != 0) notes.push_back(acks_text(message.acks));
  if (message.sole)
    notes.emplace_back(sole_name(message.type));
  if (message.device) notes.emplace_back(device_name(message.type));
  if (message.dirty) notes.emplace_back("dirty");
  if (message.written) notes.emplace_back("written");
  if (message.confirm) notes.emplace_back("confirm");
  if (message.leaving) notes.emplace_back("leaving");
  if (message.requester != kNoNode) notes.push_back("for " + names.node(message.requester));
  if (message.node != kNoNode)
    notes.push_back((message.type == MessageType::kFlushDone ? "owner " : "blames ") +
                    names.node(message.node));
  if (message.ahead != 0)
    notes.push_back("ahead" + pages_or_nothing(message.pages.with(message.ahead), names));
  std::string text = type_name(message.type);
  if (!message.pages.empty()) text += pages_or_nothing(message.pages, names);
  if (!notes.empty()) text += " (" + joined(notes, ", ") + ")";
  return text;
}

namespace {

struct ActionText {
  const Names& names;

  std::string pages(PageSet set) const { return pages_or_nothing(set, names); }
  std::string operator()(const action::Send& a) const {
    return message_text(a.message, names) + " to " + names.node(a.to);
  }
  std::string operator()(const action::Install& a) const {
    return std::string("Install") + pages(a.pages) + " (" +
           (a.access == Access::kNone ? "unmapped" : access_name(a.access)) +
           (a.zero ? ", zero)" : ")");
  }
  std::string operator()(const action::Map& a) const {
    return "Map" + pages(a.pages) + " (" + access_name(a.access) + ")";
  }
  std::string operator()(const action::Downgrade& a) const { return "Downgrade" + pages(a.pages); }
  std::string operator()(const action::Invalidate& a) const {
    return "Invalidate" + pages(a.pages);
  }
  std::string operator()(const action::SwapOut& a) const { return "SwapOut" + pages(a.pages); }
  std::string operator()(const action::SwapIn& a) const { return "SwapIn" + pages(a.pages); }
  std::string operator()(const action::FreeSwap& a) const { return "FreeSwap" + pages(a.pages); }
  std::string operator()(const action::Hold& a) const { return "Hold" + pages(a.pages); }
  std::string operator()(const action::Refuse& a) const {
    return "Refused" + pages(a.pages) + " (" + refusal_name(a.refusal) + ", blames " +
           names.node(a.node) + ")";
  }
  std::string operator()(const action::DropContainer& a) const {
    return "DropContainer " + std::to_string(a.id.value());
  }
  std::string operator()(const action::Left& a) const {
    return a.stranded ? "Left, stranded" : "Left";
  }
  std::string operator()(const action::Serving& a) const {
    return "Serving " + std::to_string(a.epoch.value());
  }
  std::string operator()(const action::WriteBack& a) const {
    return "WriteBack" + pages(a.pages) + (a.arrived ? " (arrived)" : "");
  }
  std::string operator()(const action::JobDone& a) const {
    return std::string(a.discard ? "Discarded" : "WrittenBack") + pages(a.pages) +
           (a.refusal == Refusal::kNone ? "" : " (" + refusal_name(a.refusal) + ")");
  }
  std::string operator()(const action::Synced& a) const {
    return "Synced " + std::to_string(a.container.value()) +
           (a.refusal == Refusal::kNone ? "" : " (" + refusal_name(a.refusal) + ")");
  }
  std::string operator()(const action::Violation&) const { return "violation"; }
};

}  // namespace

std::string actions_text(const Actions& actions, const Names& names) {
  std::vector<std::string> parts;
  for (const Action& action : actions) parts.push_back(std::visit(ActionText{names}, action));
  return parts.empty() ? "-" : joined(parts, "; ");
}

namespace {

std::string page_situation(const LocalPage& local) {
  return state_name(local.state) + (local.held ? " held" : "") +
         (local.flushing ? " flushing" : "") + (local.dirty ? " dirty" : "") +
         (local.foreign ? " foreign" : "");
}

std::string request_situation(const Pending& pending) {
  std::string verb = pending.access == Access::kWrite ? "Grab" : "Get";
  if (pending.job != Pending::Job::kNone)
    verb = pending.job == Pending::Job::kDiscard ? "Discard" : "WriteBack";
  switch (pending.stage) {
    case Pending::Stage::kParked:
      return "parked " + verb;
    case Pending::Stage::kSent: {
      std::string text = "asked " + verb;
      if (pending.wanted == Access::kNone && pending.job == Pending::Job::kNone) text += " ahead";
      if (pending.acks_missing != 0) text += ", " + acks_text(-pending.acks_missing) + " early";
      return text;
    }
    case Pending::Stage::kGranted:
      if (pending.device)
        return pending.job == Pending::Job::kNone ? "granted, read from file" : "written to file";
      return (pending.refusal == Refusal::kNone ? "granted, " : "refused, ") +
             acks_text(pending.acks_missing) + " missing";
  }
  return "?";
}

std::string entry_situation(const DirectoryEntry& entry, const Core& core, const Names& names) {
  if (entry.lost != 0) return "lost with " + names.node(entry.owner());
  if (entry.copyset().empty()) return "existed";
  std::string text = "owner " + names.node(entry.owner()) + ", copies";
  for (NodeId node : core.view().members)
    if (entry.copyset().has(node)) text += " " + names.node(node);
  if (entry.dirty != 0) text += ", dirty";
  return text;
}

std::string transaction_situation(const Transaction& transaction, const Names& names) {
  std::string text = type_name(transaction.type) + " for";
  for (NodeId node : transaction.requesters) text += " " + names.node(node);
  if (!transaction.queue.empty()) {
    text += ", queued";
    for (const QueuedRequest& queued : transaction.queue)
      text += " " + type_name(queued.type) + " of " + names.node(queued.requester);
  }
  return text;
}

// The core shows how many messages wait for a page only in its description.
unsigned deferred_count(const std::string& description) {
  const std::string mark = "; deferred ";
  const std::size_t at = description.find(mark);
  return at == std::string::npos
             ? 0
             : static_cast<unsigned>(std::stoul(description.substr(at + mark.size())));
}

}  // namespace

Situation situation_of(const Core& core, PageId page, const Names& names) {
  Situation situation;
  situation.page = page_situation(core.local(page));
  if (const Pending* pending = core.pending(page)) situation.request = request_situation(*pending);
  if (const auto entry = core.entry(page)) situation.entry = entry_situation(*entry, core, names);
  if (const Transaction* transaction = core.transaction(page))
    situation.transaction = transaction_situation(*transaction, names);
  situation.deferred = deferred_count(core.describe(page));
  return situation;
}

}  // namespace gob::test
