// Segments: the System V segments and plain files of this node that the patched kernel links to
// containers; "segment" is either where it makes no difference. The control thread makes all calls; what may wait for programs runs on threads of its own. Steps of a
// link: link() takes the segment's pages out of it, serve() lets programs go on. cut() ends it and
// leaves the bytes.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "libgob/linker/gob_device.h"
#include "libgob/linker/link_table.h"
#include "libgob/linker/linkable.h"
#include "libgob/runtime/mailbox.h"
#include "libgob/runtime/shard.h"

namespace gob {

class Segments {
 public:
  using Done = std::function<void(const Status&)>;
  using Opened = std::function<void(Result<Linkable>)>;
  using Pages = std::vector<std::uint64_t>;
  using CutDone = std::function<void(const Result<Pages>&)>;
  // What a segment held: a file of its size.
  using Taken = std::function<void(Result<UniqueFd>)>;

  // Links of an earlier gobd of this node are found; nobody gets pages of them until they are linked
  // anew. The shards outlive this, and the mailbox, too.
  static Result<std::unique_ptr<Segments>> create(std::shared_ptr<GobDevice> device,
                                                  std::vector<Shard*> shards, Mailbox& mailbox);
  ~Segments();

  // open_plain_file(), on a thread that may wait for the disk.
  void open_file(const std::string& path, const std::optional<NewFile>& make, Opened done);
  // Programs that touch the segment wait from now on. With `keep` its bytes are handed over, else
  // they are forgotten. On failure it is linked no more and has its bytes, or it is as one whose
  // container is gone.
  void link(const std::string& name, Linkable object, bool keep, Taken done);
  // The container exists on all shards: they go on, with its pages. On failure the link is as one
  // whose container is gone.
  void serve(const std::string& name, const Mapping::Config& config, Done done);
  // Instead of serve(): the container is not to be had; as after its failure.
  void give_up(const std::string& name);
  // The segment gets all pages (a file: on its disk), and then is linked no more. On failure it stays
  // linked; so it does if pages are lost, but for `lossy`: then they become zeros. Tells which are,
  // ascending.
  void cut(const std::string& name, bool lossy, CutDone done);
  // All that any node has written to the file is on this node's disk then; it stays linked.
  void sync(const std::string& name, const Done& done);
  // The container is gone: programs that touch the segment get SIGBUS.
  void removed(ContainerId id);

  [[nodiscard]] bool contains(const std::string& name) const { return linked_.contains(name); }
  // What is linked to a container here, or null.
  [[nodiscard]] const Linkable* of(ContainerId id) const;
  [[nodiscard]] std::vector<std::string> names() const;

 private:
  struct Linked {
    std::uint32_t link = 0;
    std::uint64_t cookie = 0;
    std::uint64_t pages = 0;
    std::shared_ptr<const Linkable> object;
    std::shared_ptr<LostPages> lost = std::make_shared<LostPages>();
    std::shared_ptr<TakenPages> taken = std::make_shared<TakenPages>();
    MappingId mapping;
    ContainerId container;
    bool busy = true;  // a step of link(), cut() or sync() is under way
  };
  struct Ended {
    std::uint32_t link = 0;
    MappingId mapping;
  };
  // Where threads leave what they have to say; closed when this ends.
  struct Post {
    std::mutex mutex;
    Mailbox* mailbox = nullptr;
    void operator()(std::function<void()> work);
  };

  Segments(std::shared_ptr<GobDevice> device, std::vector<Shard*> shards, Mailbox& mailbox);
  void on_thread(std::function<void()> work);
  // Nothing: there is more to do for the shard.
  using ShardWork = std::function<std::optional<Status>(Shard&)>;
  using Told = std::function<void(const Status&)>;
  void on_shards(const ShardWork& work, const Done& done);
  static void on_shard(Shard& shard, const ShardWork& work, const Told& told,
                       const std::shared_ptr<Post>& post);
  void fetch_all(const Linked& segment, bool lossy, const Done& done);
  void end_link(const std::string& name, const Done& done);
  void close(std::uint32_t link);
  void retry_requests();

  const std::shared_ptr<GobDevice> device_;
  const std::vector<Shard*> shards_;
  const std::shared_ptr<LinkTable> links_ = std::make_shared<LinkTable>();
  const std::shared_ptr<Post> post_ = std::make_shared<Post>();
  std::map<std::string, Linked> linked_;   // by the container's name
  std::map<std::uint64_t, Ended> ended_;  // by cookie: links whose container is gone
};

}  // namespace gob
