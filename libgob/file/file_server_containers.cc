// The containers of files: their bytes in the memory of whatever nodes read them. A file gets one
// when it is first opened for reading, and keeps it as long as some node's kernel knows the file.
// Its pages are never written: changes go to the file, and the pages are forgotten.
#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <cerrno>
#include <future>

#include "libgob/file/file_server.h"
#include "libgob/file/impersonate.h"

namespace gob::file {

// Sees that every node knows the file's container. 0 or an errno; ENOSPC: there are too many.
int FileServer::need_container(File& file) {
  std::unique_lock lock(file.data_mutex);
  const auto settled = [&] { return file.data != File::Data::kOpening; };
  if (!file.data_settled.wait_for(lock, timeout_, settled)) return EIO;
  if (file.data == File::Data::kReady) return 0;
  file.data = File::Data::kOpening;
  lock.unlock();

  // With gobd's own rights: what the program may do is settled by its own open(2).
  be_gobd();
  UniqueFd fd(::open(descriptor_path(file.path.get()).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status {};
  int error = !fd || ::fstat(fd.get(), &status) != 0 ? errno : 0;
  const std::string name = "file-" + std::to_string(self_.value()) + "-" +
                           std::to_string(incarnation_) + "-" + std::to_string(file.number);
  ContainerId container;
  if (error == 0) {
    const auto made = std::make_shared<std::promise<Result<ContainerId>>>();
    std::future<Result<ContainerId>> result = made->get_future();
    store_.provide(name, std::move(fd), static_cast<std::uint64_t>(status.st_size),
                   [made](Result<ContainerId> given) { made->set_value(std::move(given)); });
    if (result.wait_for(timeout_) != std::future_status::ready) {
      error = EIO;
      store_.withdraw({}, name);  // should it still come
    } else if (Result<ContainerId> given = result.get(); given) {
      container = *given;
    } else {
      error = given.error().errno_value != 0 ? given.error().errno_value : EIO;
      spdlog::warn("a file's bytes get no container: {}", given.error().message());
    }
  }
  lock.lock();
  file.data = error == 0 ? File::Data::kReady : File::Data::kNone;
  file.container = container;
  file.container_name = name;
  file.data_settled.notify_all();
  if (error == 0 && file.forgotten) store_.withdraw(container, name);
  return error;
}

void FileServer::forgotten(File& file) {
  const std::lock_guard guard(file.data_mutex);
  file.forgotten = true;
  if (file.data == File::Data::kReady) store_.withdraw(file.container, file.container_name);
}

}  // namespace gob::file
