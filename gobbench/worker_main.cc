#include "gobbench/worker_main.h"

#include <chrono>
#include <cstdio>
#include <iostream>
#include <stdexcept>

#include "libgob/linker/cache_sweep.h"

namespace gob::bench {
namespace {

using Handler = Json (*)(WorkerState&, const Json&);

std::string container_of(const Json& request) { return request.at("container"); }

Json create_container(WorkerState& state, const Json& request) {
  state.connection.create(container_of(request), request.at("bytes"));
  return Json::object();
}

Json remove_container(WorkerState& state, const Json& request) {
  state.connection.remove(container_of(request));
  return Json::object();
}

Json map_container(WorkerState& state, const Json& request) {
  const std::string name = container_of(request);
  state.mappings[name] = state.connection.open(name).map();
  return Json::object();
}

Json unmap_container(WorkerState& state, const Json& request) {
  state.mappings.erase(container_of(request));
  return Json::object();
}

Json meet_others(WorkerState& state, const Json& request) {
  const std::string name = request.at("barrier");
  const unsigned count = request.at("count");
  const unsigned rounds = request.at("rounds");
  std::vector<double> swept(request.value("sweep_bytes", std::size_t{0}) / sizeof(double));
  state.connection.barrier(name, count);  // nobody's start counts
  std::chrono::nanoseconds took{0};
  for (unsigned round = 0; round < rounds; ++round) {
    sweep_cache(swept);
    const auto begin = std::chrono::steady_clock::now();
    state.connection.barrier(name, count);
    took += std::chrono::steady_clock::now() - begin;
  }
  return {{"ns", took.count()}};
}

const std::map<std::string, Handler>& handlers() {
  static const std::map<std::string, Handler> table = {
      {"create", create_container}, {"remove", remove_container}, {"map", map_container},
      {"unmap", unmap_container},   {"touch", touch_pages},       {"fill", fill_pages},
      {"stream", stream_pages},     {"algorithm", run_algorithm}, {"barrier", meet_others},
  };
  return table;
}

void reply(const Json& object) { std::cout << object.dump() << std::endl; }

Json answer(WorkerState& state, const std::string& line) {
  try {
    const Json request = Json::parse(line);
    const std::string what = request.at("do");
    const auto handler = handlers().find(what);
    if (handler == handlers().end()) throw std::runtime_error("unknown request '" + what + "'");
    return handler->second(state, request);
  } catch (const std::exception& error) {
    return {{"error", error.what()}};
  }
}

}  // namespace

const gobelins::Mapping& WorkerState::mapping(const Json& request) const {
  const auto found = mappings.find(container_of(request));
  if (found == mappings.end())
    throw std::runtime_error("container " + container_of(request) + " is not mapped here");
  return found->second;
}

int run_worker(const std::string& socket) {
  try {
    WorkerState state(socket);
    reply(Json::object());
    for (std::string line; std::getline(std::cin, line);) reply(answer(state, line));
    return 0;
  } catch (const std::exception& error) {
    reply({{"error", error.what()}});
    return 1;
  }
}

}  // namespace gob::bench
