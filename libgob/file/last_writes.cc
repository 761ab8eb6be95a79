#include "libgob/file/last_writes.h"

#include <algorithm>

namespace gob::file {

std::shared_ptr<LastWrites::Write> LastWrites::begin(std::set<ContainerId> attachments,
                                                     std::string file) {
  std::uint64_t number = 0;
  {
    const std::lock_guard guard(mutex_);
    number = ++last_;
    under_way_[number] = {std::move(attachments), std::move(file), {}, {}, {}};
  }
  return std::make_shared<Write>(*this, number);
}

void LastWrites::await(ContainerId attached, const std::shared_ptr<Gathered>& all) {
  const std::lock_guard guard(mutex_);
  for (auto& [number, write] : under_way_)
    if (write.attachments.contains(attached)) {
      write.waiting.push_back(all);
      write.awaited.insert(attached);
    }
  if (const auto untold = untold_.extract(attached)) all->add(untold.mapped());
}

void LastWrites::await_all(const std::shared_ptr<Gathered>& all) {
  const std::lock_guard guard(mutex_);
  for (auto& [number, write] : under_way_) write.waiting.push_back(all);
}

bool LastWrites::after(const std::function<std::string()>& file, std::function<void()> go_on) {
  const auto of_a_file = [](const auto& item) { return !item.second.file.empty(); };
  {
    const std::lock_guard guard(mutex_);
    if (std::ranges::none_of(under_way_, of_a_file)) return false;
  }
  const std::string wanted = file();
  const std::lock_guard guard(mutex_);
  const auto found = std::ranges::find_if(
      under_way_, [&](const auto& item) { return of_a_file(item) && item.second.file == wanted; });
  if (found == under_way_.end()) return false;
  found->second.after.push_back(std::move(go_on));
  return true;
}

void LastWrites::fail(std::uint64_t number, const Error& error) {
  const std::lock_guard guard(mutex_);
  const UnderWay& write = under_way_.at(number);
  for (const std::shared_ptr<Gathered>& all : write.waiting) all->add(error);
  for (const ContainerId attached : write.attachments)
    if (!write.awaited.contains(attached)) untold_.emplace(attached, error);
}

void LastWrites::over(std::uint64_t number) {
  UnderWay ended;  // who waits is told without the lock
  {
    const std::lock_guard guard(mutex_);
    const auto found = under_way_.find(number);
    ended = std::move(found->second);
    under_way_.erase(found);
  }
  for (const auto& go_on : ended.after) go_on();
}

}  // namespace gob::file
