// Which gobd a command speaks to, and its requests. Used by one thread.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "gobctl/arguments.h"
#include "libgob/base/result.h"
#include "libgob/runtime/control_client.h"

namespace gob::ctl {

// The socket of --socket; of --node in the development cluster's directory; $GOB_SOCKET; the
// development cluster's first node, if there is one; else that of the gobd of this machine.
Result<std::string> find_socket(const Arguments& arguments);

// Connects to it.
Result<std::unique_ptr<ControlClient>> connect(
    const Arguments& arguments,
    ControlClient::Milliseconds timeout = ControlClient::kDefaultTimeout);

// One request, one reply.
Result<control::Reply> ask(ControlClient& client, control::Request request,
                           ControlClient::Milliseconds timeout = ControlClient::kDefaultTimeout);

// A number of seconds from the command line, rounded up to milliseconds.
ControlClient::Milliseconds milliseconds(double seconds);

}  // namespace gob::ctl
