// Words for people: log lines and `gobctl stat`. Any thread.
#pragma once

#include "libgob/protocol/message.h"
#include "libgob/protocol/message_name.h"

namespace gob {

[[nodiscard]] const char* to_words(Refusal refusal);

}  // namespace gob
