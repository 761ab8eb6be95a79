#include "libgob/runtime/words.h"

namespace gob {

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
