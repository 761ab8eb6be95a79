// Keeper: writes what the cluster knows of a migrant as long as it is on this node, and hears which
// signals others want sent to it. Used by one thread; has one that listens. If gobd ends, nobody
// knows of the migrant any more, and nothing else happens.
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>

#include "libgob/base/unique_fd.h"
#include "libgob/migration/migrant.h"

namespace gob::migration {

class Keeper {
 public:
  // For a process that comes here in this session; writes nothing yet.
  static Result<std::unique_ptr<Keeper>> open(const std::string& socket, const std::string& record,
                                              const std::string& session);
  ~Keeper();
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;

  // From here on it is this one that writes, and listens.
  void runs(const std::string& node, pid_t pid, std::uint64_t out_pages);
  void out_pages(std::uint64_t pages);
  void moves_to(const std::string& node);
  void does_not_move();
  // Another one writes from here on.
  void gives_up();
  // Its wait status, and why if it was not its own doing.
  void ended(int wait_status, const std::string& why);

  // Readable when next() has something.
  [[nodiscard]] int fd() const;
  std::optional<Order> next();
  // It was carried out, or why not.
  void answer(const Order& order, const std::string& error);
  [[nodiscard]] const std::string& record() const { return record_.name(); }

 private:
  struct Ear;
  Keeper(std::string socket, std::string lock, gobelins::Connection gob, MigrantRecord record)
      : socket_(std::move(socket)),
        lock_(std::move(lock)),
        gob_(std::move(gob)),
        record_(std::move(record)) {}
  void change(Migrant::State state);
  void write();
  void listen();
  void wake();

  const std::string socket_, lock_;
  gobelins::Connection gob_;
  MigrantRecord record_;
  Migrant migrant_;
  bool keeps_ = false;
  std::shared_ptr<Ear> ear_;
};

}  // namespace gob::migration
