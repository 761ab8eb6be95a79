// Words for people: log lines and `gobctl stat`. Any thread.
#pragma once

#include "libgob/protocol/message.h"

namespace gob {

[[nodiscard]] const char* to_words(MessageType type);
[[nodiscard]] const char* to_words(Refusal refusal);

}  // namespace gob
