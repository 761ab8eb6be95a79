// The name of a type of message, for logs, traces and tables. Pure.
#pragma once

#include "libgob/protocol/message.h"

namespace gob {

[[nodiscard]] inline const char* to_words(MessageType type) {
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

}  // namespace gob
