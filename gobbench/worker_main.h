// The worker's end: `gobbench worker --socket PATH`. One thread. Each handler takes a request and
// returns the reply; what it throws becomes {"error": text}.
//
//   do         fields                                reply
//   create     container, bytes                      {}
//   remove     container                             {}
//   map        container                             {}           by name, until unmap
//   unmap      container                             {}
//   touch      container, access, order, seed        {ns: [...]}  worker_touch.cc
//   fill       container                             {}           worker_stream.cc
//   stream     container, order, seed                {ns}
//   barrier    barrier, count, rounds                {ns}         of all rounds
//   algorithm  see worker_algorithm.cc               {begin, end}
#pragma once

#include <gob.hpp>
#include <map>
#include <span>
#include <string>

#include "gobbench/table.h"

namespace gob::bench {

class WorkerState {
 public:
  explicit WorkerState(const std::string& socket) : connection(socket) {}

  // The mapping of a container that "map" made; throws std::runtime_error without one.
  [[nodiscard]] const gobelins::Mapping& mapping(const Json& request) const;
  template <class T>
  [[nodiscard]] std::span<T> mapped(const Json& request) const {
    return mapping(request).as<T>();
  }

  gobelins::Connection connection;
  std::map<std::string, gobelins::Mapping> mappings;
};

// Serves requests from stdin until it ends. Returns the exit code.
int run_worker(const std::string& socket);

Json touch_pages(WorkerState& state, const Json& request);
Json fill_pages(WorkerState& state, const Json& request);
Json stream_pages(WorkerState& state, const Json& request);
Json run_algorithm(WorkerState& state, const Json& request);

}  // namespace gob::bench
