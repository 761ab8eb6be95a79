#include "libgob/migration/migrant.h"

#include <cstring>
#include <thread>

#include "libgob/base/ids.h"
#include "libgob/migration/shared_memory.h"
#include "libgob/migration/talk.h"

namespace gob::migration {
namespace {

// Two states, written in turn: the newest that is whole counts.
struct Slot {
  std::uint64_t generation;  // 0: nothing
  std::uint64_t check;
  std::uint32_t bytes;
  char data[kPageSize / 2 - 20];
};
struct States {
  Slot slots[2];
};
static_assert(sizeof(States) <= kPageSize);
constexpr std::uint64_t kOrderAt = kPageSize;
constexpr std::uint64_t kRecordBytes = 2 * kPageSize;
constexpr std::size_t kLongestWhy = 600;
constexpr int kMostStays = 8;
constexpr std::chrono::seconds kBeingWritten{2};

std::uint64_t check_of(const Slot& slot) {
  std::uint64_t sum = 0xcbf29ce484222325 ^ slot.generation;
  for (std::uint32_t i = 0; i < slot.bytes; ++i)
    sum = (sum ^ static_cast<unsigned char>(slot.data[i])) * 0x100000001b3;
  return sum;
}

bool is_whole(const Slot& slot) {
  return slot.generation != 0 && slot.bytes <= sizeof slot.data && slot.check == check_of(slot);
}

}  // namespace

std::string record_of(const std::string& session) {
  constexpr std::size_t kPrefix = std::string_view("migrate").size();
  return "migrant" + session.substr(kPrefix);
}

std::uint64_t wall_clock_ms() {
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                        std::chrono::system_clock::now().time_since_epoch())
                                        .count());
}

Result<bool> take_lock(const gobelins::Connection& gob, const std::string& name,
                       std::chrono::milliseconds limit) {
  const int got = ::gob_lock(gob.get(), name.c_str(), limit.count());
  if (got == 0 || got == -EOWNERDEAD) return true;
  if (got == -ETIMEDOUT || got == -EBUSY) return false;
  return make_error(got == -ENOTCONN ? ErrorCode::kUnavailable : ErrorCode::kSystem,
                    ::gob_last_error(), -got);
}

Result<MigrantRecord> MigrantRecord::create(const gobelins::Connection& gob,
                                            const std::string& name, const Migrant& migrant) {
  try {
    gobelins::Connection(gob).create(name, kRecordBytes);
  } catch (const std::system_error& error) {
    return error_of(error, "noting what moves");
  }
  auto record = open(gob, name);
  if (!record) return record;
  if (Status written = record->write(migrant); !written) return written.error();
  return record;
}

Result<MigrantRecord> MigrantRecord::open(const gobelins::Connection& gob,
                                          const std::string& name) {
  try {
    gobelins::Mapping memory = gobelins::Connection(gob).open(name).map();
    if (memory.size_bytes() != kRecordBytes)
      return make_error(ErrorCode::kProtocol, name + " is no record of a migrant");
    return MigrantRecord(name, std::move(memory));
  } catch (const std::system_error& error) {
    if (error.code().value() == EACCES)
      return make_error(ErrorCode::kPermissionDenied, "only root sees what moved: use sudo", EACCES);
    return error_of(error, "opening " + name);
  }
}

Result<Migrant> MigrantRecord::read() const {
  const auto deadline = std::chrono::steady_clock::now() + kBeingWritten;
  while (true) {
    States states;
    if (Status got = load(&states, memory_.data(), sizeof states); !got) return got.error();
    const Slot* newest = nullptr;
    for (const Slot& slot : states.slots)
      if (is_whole(slot) && (newest == nullptr || slot.generation > newest->generation))
        newest = &slot;
    Migrant migrant;
    if (newest != nullptr && migrant.ParseFromArray(newest->data, static_cast<int>(newest->bytes)))
      return migrant;
    // One is always whole, but before the first was written; a reader that is overtaken twice
    // meets none.
    if (std::chrono::steady_clock::now() >= deadline ||
        (states.slots[0].generation == 0 && states.slots[1].generation == 0))
      return make_error(ErrorCode::kNotFound, name_ + " is being made");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

Status MigrantRecord::write(const Migrant& migrant) {
  Migrant shorter = migrant;
  while (shorter.stays_size() > kMostStays) shorter.mutable_stays()->DeleteSubrange(1, 1);
  for (std::string* text : {shorter.mutable_why(), shorter.mutable_answer()})
    if (text->size() > kLongestWhy) text->resize(kLongestWhy);
  States states;
  if (Status got = load(&states, memory_.data(), sizeof states); !got) return got;
  const bool second = !is_whole(states.slots[0]) ? false
                      : !is_whole(states.slots[1])
                          ? true
                          : states.slots[1].generation < states.slots[0].generation;
  Slot& slot = states.slots[second ? 1 : 0];
  const Slot& other = states.slots[second ? 0 : 1];
  if (shorter.ByteSizeLong() > sizeof slot.data)
    return make_error(ErrorCode::kInvalidArgument, "names of nodes are too long for " + name_);
  slot.generation = (is_whole(other) ? other.generation : 0) + 1;
  slot.bytes = static_cast<std::uint32_t>(shorter.ByteSizeLong());
  shorter.SerializeToArray(slot.data, static_cast<int>(slot.bytes));
  slot.check = check_of(slot);
  return store(&static_cast<States*>(memory_.data())->slots[second ? 1 : 0], &slot, sizeof slot);
}

Result<Order> MigrantRecord::order() const {
  return load(reinterpret_cast<const Order*>(static_cast<const char*>(memory_.data()) + kOrderAt));
}

Status MigrantRecord::give(const Order& order) {
  return store(static_cast<char*>(memory_.data()) + kOrderAt, &order, sizeof order);
}

}  // namespace gob::migration
