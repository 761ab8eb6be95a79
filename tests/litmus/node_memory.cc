#include "tests/litmus/node_memory.h"

#include <sys/ipc.h>
#include <sys/shm.h>

#include <cerrno>
#include <gob.hpp>
#include <map>
#include <stdexcept>
#include <system_error>

#include "libgob/runtime/control_client.h"

namespace gob::litmus {
namespace {

constexpr std::size_t kPageBytes = 4096;

class Containers final : public NodeMemory {
 public:
  Containers(const std::string& socket, unsigned pages) : gob_(socket), pages_(pages) {}

  void create(const std::vector<std::string>& names) override {
    for (const std::string& name : names) gob_.create(name, pages_ * kPageBytes);
  }
  std::vector<std::uint64_t*> open(const std::vector<std::string>& names) override {
    std::vector<std::uint64_t*> words;
    for (const std::string& name : names) {
      mappings_.push_back(gob_.open(name).map());
      words.push_back(mappings_.back().as<std::uint64_t>().data());
    }
    return words;
  }
  void close() override { mappings_.clear(); }
  void remove(const std::vector<std::string>& names) override {
    for (const std::string& name : names) gob_.remove(name);
  }

 private:
  gobelins::Connection gob_;
  const unsigned pages_;
  std::vector<gobelins::Mapping> mappings_;
};

class Segments final : public NodeMemory {
 public:
  Segments(const std::string& socket, unsigned node, unsigned pages) : node_(node), pages_(pages) {
    auto client = ControlClient::connect(socket, "litmus");
    if (!client) throw std::runtime_error(client.error().message());
    client_ = std::move(*client);
  }
  ~Segments() override {
    for (const auto& [name, segment] : segments_) {
      ::shmdt(segment.words);
      ::shmctl(segment.id, IPC_RMID, nullptr);
    }
  }

  void create(const std::vector<std::string>& names) override {
    for (const std::string& name : names) attach(name);
  }
  std::vector<std::uint64_t*> open(const std::vector<std::string>& names) override {
    std::vector<std::uint64_t*> words;
    for (const std::string& name : names) {
      if (!segments_.contains(name)) attach(name);
      words.push_back(segments_.at(name).words);
    }
    return words;
  }
  void close() override {
    for (const auto& [name, segment] : segments_) {
      control::Request request;
      request.mutable_detach()->set_name(name);
      ask(std::move(request));
    }
  }
  void remove(const std::vector<std::string>&) override {}  // it went with its home's segment

 private:
  struct Segment {
    int id;
    std::uint64_t* words;
  };

  void attach(const std::string& name) {
    // Any key that nobody has; nodes of one machine cannot have the same.
    int id = -1;
    key_t key = static_cast<key_t>(0x6c000000 + node_ * 0x10000);
    do {
      id = ::shmget(++key, pages_ * kPageBytes, IPC_CREAT | IPC_EXCL | 0600);
    } while (id < 0 && errno == EEXIST);
    void* const words = id < 0 ? nullptr : ::shmat(id, nullptr, 0);
    if (id < 0 || words == reinterpret_cast<void*>(-1))
      throw std::system_error(errno, std::generic_category(), "cannot make a segment");
    segments_[name] = {id, static_cast<std::uint64_t*>(words)};
    control::Request request;
    request.mutable_attach()->set_name(name);
    request.mutable_attach()->set_segment_key(key);
    ask(std::move(request));
  }
  void ask(control::Request request) {
    const auto answer = client_->call(std::move(request));
    if (!answer) throw std::runtime_error(answer.error().message());
  }

  const unsigned node_;
  const unsigned pages_;
  std::unique_ptr<ControlClient> client_;
  std::map<std::string, Segment> segments_;
};

}  // namespace

std::unique_ptr<NodeMemory> containers_of_node(const std::string& socket, unsigned pages) {
  return std::make_unique<Containers>(socket, pages);
}

std::unique_ptr<NodeMemory> segments_of_node(const std::string& socket, unsigned node,
                                             unsigned pages) {
  return std::make_unique<Segments>(socket, node, pages);
}

}  // namespace gob::litmus
