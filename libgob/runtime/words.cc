#include "libgob/runtime/words.h"

namespace gob {

const char* to_words(MessageType type) {
  switch (type) {
    case MessageType::kGet:
      return "Get";
    case MessageType::kGrab:
      return "Grab";
    case MessageType::kForwardGet:
      return "ForwardGet";
    case MessageType::kForwardGrab:
      return "ForwardGrab";
    case MessageType::kInvalidate:
      return "Invalidate";
    case MessageType::kInvalidateAck:
      return "InvalidateAck";
    case MessageType::kPage:
      return "Page";
    case MessageType::kGrant:
      return "Grant";
    case MessageType::kConfirm:
      return "Confirm";
    case MessageType::kRefuse:
      return "Refuse";
    case MessageType::kFlush:
      return "Flush";
    case MessageType::kFlushDiscard:
      return "FlushDiscard";
    case MessageType::kFlushAlone:
      return "FlushAlone";
    case MessageType::kInject:
      return "Inject";
    case MessageType::kInjectReply:
      return "InjectReply";
    case MessageType::kFlushDone:
      return "FlushDone";
    case MessageType::kMarker:
      return "Marker";
    case MessageType::kReport:
      return "Report";
    case MessageType::kReportEnd:
      return "ReportEnd";
    case MessageType::kWriteBack:
      return "WriteBack";
    case MessageType::kDiscard:
      return "Discard";
    case MessageType::kSync:
      return "Sync";
    case MessageType::kSyncEnd:
      return "SyncEnd";
    case MessageType::kExists:
      return "Exists";
  }
  return "unknown";
}

const char* to_words(Refusal refusal) {
  switch (refusal) {
    case Refusal::kNone:
      return "nothing is wrong";
    case Refusal::kSkipped:
      return "not needed now";
    case Refusal::kLost:
      return "its bytes died with their node";
    case Refusal::kTimedOut:
      return "no answer within page_timeout_ms";
    case Refusal::kRemoved:
      return "the container was removed";
    case Refusal::kNoRoom:
      return "no frame is free, no node has room, no swap is left";
    case Refusal::kIo:
      return "it could not be read from swap or its file, or the node that has the file is away";
    case Refusal::kLeaving:
      return "this node is leaving the cluster";
    case Refusal::kRange:
      return "it lies beyond the end of the container";
  }
  return "unknown";
}

}  // namespace gob
