#include "libgob/client/last_error.h"

#include <string>

#include "libgob/runtime/control_wire.h"

namespace gob::client {
namespace {

thread_local std::string text;

}  // namespace

int failed(const Error& error) {
  text = error.context;
  return -errno_of(error);
}

const char* last_error() { return text.c_str(); }

}  // namespace gob::client
