// For tests of the home's side: a server on a real folder, whose containers are only numbers.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <mutex>
#include <thread>
#include <utility>

#include "libgob/file/file_server.h"

namespace gob::file {

namespace fs = std::filesystem;

inline constexpr std::uint64_t kIncarnation = 77;
inline const ContainerId kTree{5};
inline const NodeId kHere{0};
inline const NodeId kPeer{1};
inline constexpr std::uint32_t kNobody = 65534;

// Containers that are only numbers, and what was asked of their bytes.
class Store final : public FileStore, public FileData {
 public:
  void provide(const std::string&, const std::string& found_by, UniqueFd, std::uint64_t,
               std::function<void(Result<ContainerId>)> done) override {
    source = found_by;
    if (std::exchange(refuses_once, false))
      return done(make_error(ErrorCode::kUnavailable, "not now", EAGAIN));
    if (while_providing) std::exchange(while_providing, nullptr)();
    done(ContainerId{++last_});
  }
  void withdraw(ContainerId container, const std::string&) override {
    withdrawn.push_back(container);
  }
  void send(NodeId to, peer::FileBody body) override {
    const int number = ++sends;  // before anybody can hear of an answer to it
    if (body.has_revoke() && to == kPeer) ++revokes;
    if (gives_back_to != nullptr && body.has_revoke()) {
      peer::FileRevoked revoked;
      revoked.set_incarnation(body.revoke().incarnation());
      revoked.set_file(body.revoke().file());
      revoked.set_number(body.revoke().number());
      gives_back_to->revoked(to, revoked);
    }
    if (number == 1) first_sent.set_value(std::move(body));
  }
  FileData& data() override { return *this; }

  void read(ContainerId, std::uint64_t, std::span<std::byte>, Caching, ReadAhead,
            Done done) override {
    done({});
  }
  void write(ContainerId, std::uint64_t offset, std::span<const std::byte> bytes, Caching,
             Done done) override {
    ++writes;
    const auto arrive = [this, offset, bytes, done] {
      {
        const std::lock_guard guard(mutex_);
        if (pages.size() < offset + bytes.size()) pages.resize(offset + bytes.size());
        std::memcpy(pages.data() + offset, bytes.data(), bytes.size());
      }
      done({});
    };
    if (!holds_write.exchange(false)) return arrive();
    held_write.set_value(arrive);
  }
  void not_given(ContainerId, std::uint64_t, std::uint64_t) override {}
  void discard(ContainerId, FileRange range, Done done) override {
    {
      const std::lock_guard guard(mutex_);
      discarded.push_back(range);
      size_at_discard = size.load();
      for (std::uint64_t page = (range.offset + kPageSize - 1) / kPageSize * kPageSize;
           page < pages.size(); page += kPageSize)
        if (page + kPageSize - range.offset <= range.length)
          pages.replace(page, kPageSize, std::min(kPageSize, pages.size() - page), '\0');
    }
    if (!holds_discard) return done({});
    held_discard.set_value(std::move(done));
  }
  void bind(ContainerId, UniqueFd, std::uint64_t size_bytes, Done done) override {
    size = size_bytes;
    done({});
    ++binds;
  }
  void write_back(ContainerId, FileRange, Done done) override {
    if (!holds_write_back) return done({});
    held_write_back.set_value(std::move(done));
  }
  void on_written(std::function<void(ContainerId)>) override {}
  void resize(ContainerId, const std::function<std::uint64_t()>& change) override {
    if (before_resize) before_resize();
    size = change();
  }
  void set_size(ContainerId, std::uint64_t size_bytes) override { size = size_bytes; }
  void set_kernel_cache(KernelCache*) override {}

  FileServer* gives_back_to = nullptr;  // every node gives leases back at once
  std::string source;                   // of the last container
  std::vector<ContainerId> withdrawn;
  std::vector<FileRange> discarded;
  std::uint64_t size_at_discard = 0;  // how far write-back went at the last of them
  bool refuses_once = false;  // the next container
  std::function<void()> while_providing;
  std::atomic<std::uint64_t> size = 0;  // of the file, as it was last told
  std::atomic<int> writes = 0;
  std::string pages;                      // of the one file, as they were written
  std::atomic<bool> holds_write = false;  // the next one waits
  std::promise<std::function<void()>> held_write;
  std::atomic<int> binds = 0;
  std::function<void()> before_resize;  // write-back stands still from here
  bool holds_discard = false;  // the next one waits
  std::promise<Done> held_discard;
  bool holds_write_back = false;  // the next one waits
  std::promise<Done> held_write_back;
  std::promise<peer::FileBody> first_sent;
  std::atomic<int> sends = 0;
  std::atomic<int> revokes = 0;  // that kPeer was asked for

 private:
  std::mutex mutex_;
  std::uint32_t last_ = 0;
};

class FileServerTest : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/gob-file-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern), nullptr);
    folder_ = pattern;
    ASSERT_EQ(::chmod(pattern, 0755), 0);
    fs::create_directory(folder_ / "tree");
    ASSERT_TRUE(server_.start().ok());
    server_.attach(kTree, (folder_ / "tree").string());
  }
  void TearDown() override {
    server_.stop();
    fs::remove_all(folder_);
  }

  peer::FileReply ask(NodeId from, peer::FileRequest request) {
    request.set_id(++last_id_);
    request.set_incarnation(kIncarnation);
    if (!request.has_caller()) {
      request.mutable_caller()->set_uid(::geteuid());
      request.mutable_caller()->set_gid(::getegid());
    }
    EXPECT_TRUE(check_file_request(request).ok());
    std::promise<peer::FileReply> answered;
    server_.handle(from, std::move(request),
                   [&](peer::FileReply reply) { answered.set_value(std::move(reply)); });
    return answered.get_future().get();
  }
  static peer::FileRequest make(FileOp op, std::uint64_t file = 0, const std::string& name = "") {
    peer::FileRequest request;
    request.set_op(static_cast<std::uint32_t>(op));
    request.set_file(file);
    request.set_name(name);
    return request;
  }
  // Complete, for whoever does not wait for its answer.
  static peer::FileRequest resize(std::uint64_t file, std::uint64_t size) {
    peer::FileRequest request = make(FileOp::kSetAttributes, file);
    request.set_set(kSetSize);
    request.mutable_attributes()->set_size(size);
    request.set_id(1000);
    request.set_incarnation(kIncarnation);
    request.mutable_caller()->set_uid(::geteuid());
    return request;
  }
  peer::FileReply root(NodeId from) { return ask(from, make(FileOp::kRoot, kTree.value())); }
  // A program of the peer has it mapped for writing: its handle.
  std::uint64_t map_file(const std::string& name) {
    const auto file = ask(kPeer, make(FileOp::kLookup, root(kPeer).file(), name));
    auto open = make(FileOp::kOpen, file.file());
    open.set_flags(O_RDWR);
    auto map = make(FileOp::kMap, file.file());
    map.set_handle(ask(kPeer, open).handle());
    EXPECT_EQ(ask(kPeer, map).error(), 0u);
    return map.handle();
  }
  void write_file(const std::string& name, const std::string& text, mode_t mode = 0644) {
    std::ofstream(folder_ / name) << text;
    ASSERT_EQ(::chmod((folder_ / name).c_str(), mode), 0);
  }

  fs::path folder_;
  Store store_;
  FileServer server_{kHere, kIncarnation, std::chrono::seconds(30), store_};
  std::uint64_t last_id_ = 0;
};

}  // namespace gob::file
