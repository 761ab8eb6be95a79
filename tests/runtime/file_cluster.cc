#include "tests/runtime/file_cluster.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <future>
#include <stdexcept>

namespace gob::test {
namespace {

constexpr std::uint64_t kPages = 1u << 20;
constexpr auto kPatience = std::chrono::seconds(30);

template <class T>
T within_patience(std::future<T> future, const char* what) {
  if (future.wait_for(kPatience) != std::future_status::ready)
    throw std::runtime_error(std::string(what) + " does not end");
  return future.get();
}

template <class T>
T value_of(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message());
  return std::move(result).value();
}

}  // namespace

struct FileCluster::Node final : ShardListener {
  void on_peer_up(unsigned shard, NodeId peer, std::uint64_t) override {
    const std::lock_guard lock(mutex);
    up.insert({shard, peer});
    changed.notify_all();
  }
  void on_peer_down(unsigned shard, NodeId peer, DownReason, const std::string&) override {
    const std::lock_guard lock(mutex);
    up.erase({shard, peer});
    changed.notify_all();
  }
  void on_serving(unsigned shard, Epoch epoch) override {
    const std::lock_guard lock(mutex);
    serving[shard] = epoch;
    changed.notify_all();
  }
  void on_left(unsigned, bool) override {}
  void on_fatal(unsigned shard, const Error& error) override {
    ADD_FAILURE() << "shard " << shard << " cannot go on: " << error.message();
  }
  template <class F>
  void wait_until(F&& condition, const char* what) {
    std::unique_lock lock(mutex);
    if (!changed.wait_for(lock, kPatience, condition))
      throw std::runtime_error(std::string("waited in vain for ") + what);
  }

  std::mutex mutex;
  std::condition_variable changed;
  std::set<std::pair<unsigned, NodeId>> up;
  std::map<unsigned, Epoch> serving;
  std::unique_ptr<Transport> transport;
  std::vector<std::unique_ptr<Shard>> shards;
  std::unique_ptr<Files> files;
};

FileCluster::FileCluster(const Options& options, std::uint64_t bytes)
    : options_(options),
      bytes_(bytes),
      disk_(::memfd_create("file-cluster-disk", MFD_CLOEXEC)),
      hub_({options.nodes, options.shards}),
      nodes_(options.nodes) {
  if (!disk_ || ::ftruncate(disk_.get(), static_cast<off_t>(bytes)) != 0)
    throw std::runtime_error("no file to stand for the disk");
  for (unsigned node = 0; node < options.nodes; ++node) start(node);
  install_view({});
  bind(UniqueFd(::fcntl(disk_.get(), F_DUPFD_CLOEXEC, 0)), bytes);
}

FileCluster::~FileCluster() {
  for (const auto& node : nodes_)
    if (node != nullptr)
      for (const auto& shard : node->shards) shard->stop();
}

void FileCluster::start(unsigned number) {
  auto node = std::make_unique<Node>();
  const NodeId self{static_cast<std::uint16_t>(number)};
  node->transport = value_of(hub_.open(self));
  std::vector<Shard*> siblings;
  for (unsigned i = 0; i < options_.shards; ++i) {
    ShardConfig config;
    config.index = i;
    config.shards = options_.shards;
    config.core.self = self;
    config.core.cluster_size = static_cast<std::uint16_t>(options_.nodes);
    config.core.budget_frames = options_.budget_pages / options_.shards;
    config.core.swap = false;
    config.page_timeout_ms = options_.page_timeout_ms;
    config.write_back_ms = options_.write_back_ms;
    node->shards.push_back(value_of(Shard::create(
        config, value_of(node->transport->channel(static_cast<std::uint8_t>(i))), nullptr, *node)));
    siblings.push_back(node->shards.back().get());
  }
  for (const auto& shard : node->shards) shard->connect_siblings(siblings);
  node->files = std::make_unique<Files>(self, siblings, options_.read_ahead_pages);
  for (const auto& shard : node->shards)
    if (!shard->start()) throw std::runtime_error("a shard does not start");
  nodes_[number] = std::move(node);
  for (const ContainerId id : {kFile, kMemory}) {
    ContainerInfo info{id, kPages, Epoch{1}, kNoNode};
    if (id == kFile) {
      info.home = NodeId{kHome};
      nodes_[number]->files->add_container(info);
    }
    const auto pool =
        std::make_shared<const FramePool>(value_of(FramePool::create("file-cluster", kPages)));
    on_shards(number, [&](Shard& shard) { shard.add_container(info, pool); });
  }
}

void FileCluster::on_shards(unsigned number, const std::function<void(Shard&)>& work) {
  for (const auto& shard : nodes_[number]->shards) {
    std::promise<void> ended;
    auto end = ended.get_future();
    if (!shard->post([&](Shard& owner) {
          work(owner);
          ended.set_value();
        }))
      throw std::runtime_error("a shard takes no work");
    within_patience(std::move(end), "work on a shard");
  }
}

void FileCluster::wait_for_links() {
  for (NodeId self : view_.members) {
    Node& node = *nodes_[self.value()];
    node.wait_until(
        [&] {
          for (NodeId peer : view_.members)
            for (unsigned shard = 0; shard < options_.shards; ++shard)
              if (peer != self && !node.up.contains({shard, peer})) return false;
          return true;
        },
        "links");
  }
}

void FileCluster::install_view(std::vector<NodeId> dead) {
  const std::vector<NodeId> before = view_.members;
  view_.epoch = Epoch{view_.epoch.value() + 1};
  view_.members.clear();
  for (unsigned i = 0; i < options_.nodes; ++i)
    if (nodes_[i] != nullptr) view_.members.push_back(NodeId{static_cast<std::uint16_t>(i)});
  if (!dead.empty()) view_.losses.push_back({view_.epoch, before, std::move(dead)});
  wait_for_links();
  for (NodeId self : view_.members)
    on_shards(self.value(), [&](Shard& shard) { shard.feed(event::NewView{view_}); });
  for (NodeId self : view_.members) {
    Node& node = *nodes_[self.value()];
    node.wait_until(
        [&] {
          for (unsigned shard = 0; shard < options_.shards; ++shard)
            if (node.serving[shard] != view_.epoch) return false;
          return true;
        },
        "the view to be served");
  }
}

void FileCluster::kill(unsigned number) {
  for (const auto& shard : nodes_[number]->shards) shard->stop();
  nodes_[number]->files.reset();
  nodes_[number]->shards.clear();  // the channels before the transport
  nodes_[number].reset();
  install_view({NodeId{static_cast<std::uint16_t>(number)}});
}

void FileCluster::restart(unsigned number) {
  start(number);
  install_view({});
  if (number == kHome) bind(UniqueFd(::fcntl(disk_.get(), F_DUPFD_CLOEXEC, 0)), bytes_);
}

void FileCluster::bind(UniqueFd file, std::uint64_t bytes) {
  std::promise<Status> ended;
  auto end = ended.get_future();
  files(kHome).bind(kFile, std::move(file), bytes,
                    [&](const Status& status) { ended.set_value(status); });
  const Status bound = within_patience(std::move(end), "binding the file");
  if (!bound) throw std::runtime_error(bound.error().message());
}

FileData& FileCluster::files(unsigned node) { return *nodes_[node]->files; }

void FileCluster::put_on_disk(std::uint64_t offset, const std::string& bytes) {
  if (::pwrite(disk_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)) !=
      static_cast<ssize_t>(bytes.size()))
    throw std::runtime_error("the disk takes no bytes");
}

std::string FileCluster::on_disk(std::uint64_t offset, std::size_t length) const {
  std::string bytes(length, '\0');
  const ssize_t got = ::pread(disk_.get(), bytes.data(), length, static_cast<off_t>(offset));
  bytes.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
  return bytes;
}

Result<std::string> FileCluster::read(unsigned node, std::uint64_t offset, std::size_t length,
                                      Caching caching) {
  std::string bytes(length, '\0');
  std::promise<Status> ended;
  auto end = ended.get_future();
  files(node).read(kFile, offset, std::as_writable_bytes(std::span(bytes)), caching,
                   ReadAhead::kByOrder, [&](const Status& status) { ended.set_value(status); });
  const Status status = within_patience(std::move(end), "a read");
  if (!status) return status.error();
  return bytes;
}

Status FileCluster::write(unsigned node, std::uint64_t offset, const std::string& bytes,
                          Caching caching) {
  std::promise<Status> ended;
  auto end = ended.get_future();
  files(node).write(kFile, offset, std::as_bytes(std::span(bytes)), caching,
                    [&](const Status& status) { ended.set_value(status); });
  return within_patience(std::move(end), "a write");
}

Status FileCluster::write_back(FileRange range) {
  std::promise<Status> ended;
  auto end = ended.get_future();
  files(kHome).write_back(kFile, range, [&](const Status& status) { ended.set_value(status); });
  return within_patience(std::move(end), "a write-back");
}

Status FileCluster::discard(FileRange range) {
  std::promise<Status> ended;
  auto end = ended.get_future();
  files(kHome).discard(kFile, range, [&](const Status& status) { ended.set_value(status); });
  return within_patience(std::move(end), "a discard");
}

}  // namespace gob::test
