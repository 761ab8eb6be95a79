// The text behind gob_last_error(), one for each thread, and the way from Result to an int.
#pragma once

#include <exception>
#include <string>

#include "libgob/base/result.h"

namespace gob::client {

// Keeps the text for the calling thread; returns the negative errno for the program.
int failed(const Error& error);
const char* last_error();

// Runs the body of an API function; exceptions (memory) stop here.
template <class Body>
int guarded(Body&& body) noexcept {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return -ENOMEM;
  } catch (const std::exception& error) {
    return failed(make_error(ErrorCode::kSystem, error.what(), EIO));
  }
}

}  // namespace gob::client
