// What programs have written into mapped files is asked to the disk: by who ends an attachment, and
// by a node that leaves.
#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "libgob/file/file_server.h"
#include "libgob/file/impersonate.h"

namespace gob::file {

namespace {

Error failed(const File& file, const Error& why) {
  return make_error(why.code, place_of(file) + ": " + why.context, why.errno_value);
}

}  // namespace

// Those that nobody knows any more come last: a file may become one while it is written.
void FileServer::write_back(const std::shared_ptr<Asked>& asked) {
  const ContainerId attached{static_cast<std::uint32_t>(asked->request.file())};
  const auto answer = [this, asked](const Status& written) {
    Reply reply;
    reply.set_id(asked->request.id());
    reply.set_incarnation(incarnation_);
    if (!written) {
      const int error = written.error().errno_value;
      reply.set_error(static_cast<std::uint32_t>(error != 0 ? error : EIO));
      reply.set_data(written.error().context);
    }
    asked->answer(std::move(reply));
  };
  const auto known = std::make_shared<Gathered>([this, attached, answer](const Status& written) {
    const auto rest = std::make_shared<Gathered>(answer);
    rest->add(written);
    last_writes_.await(attached, rest);
  });
  for (const std::shared_ptr<File>& file : mapped())
    if (table_.is_reached_by(*file, attached))
      write_back(file, true, std::make_shared<Part>(known));
}

// `again`: a failure may be one that has been mended meanwhile, of a write in the background.
void FileServer::write_back(const std::shared_ptr<File>& file, bool again,
                            const std::shared_ptr<Part>& part) {
  store_.data().write_back(file->container, {}, [this, file, again, part](const Status& written) {
    if (written) return sync_pool_.resume([file, part] { part->end(sync(*file)); });
    if (table_.find(file->number) == nullptr) return part->end({});  // its last write is under way
    if (again) return write_back(file, false, part);
    part->end(failed(*file, written.error()));
  });
}

// Nobody will have it open who could be told later that the disk did not take it. An open file of
// its own: by a program's, the program would not hear of it. Opened for either, since a gobd that
// is not root may do only one of them if the mode was changed after the file was mapped.
Status FileServer::sync(const File& file) {
  be_gobd();
  struct stat status {};
  if (::fstat(file.path.get(), &status) == 0 && status.st_nlink == 0) return {};  // it was removed
  const std::string path = descriptor_path(file.path.get());
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd && errno == EACCES) fd.reset(::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd || ::fsync(fd.get()) != 0) return failed(file, system_error("cannot sync it"));
  return {};
}

// Of a mapped file that nobody knows any more.
void FileServer::write_last(const std::shared_ptr<File>& file,
                            const FileTable::Attachments& attachments) {
  const auto end = [this, file](const Status& written, LastWrites::Write& write) {
    const Status synced = written ? sync(*file) : Status(failed(*file, written.error()));
    if (!synced)
      spdlog::error("what programs wrote into a file that was mapped is lost: {}",
                    synced.error().message());
    write.end(synced);
    store_.withdraw(file->container, file->container_name);
  };
  store_.data().write_back(
      file->container, {},
      [this, end, write = last_writes_.begin(attachments)](const Status& written) {
        // The disk is slow: not on a shard's thread.
        sync_pool_.resume([end, write, written] { end(written, *write); });
      });
}

void FileServer::sync_reopened(std::shared_ptr<UniqueFd> file,
                               std::function<void(const Status&)> done) {
  sync_pool_.resume([kept = std::move(file), told = std::move(done)] {
    told(::fsync(kept->get()) == 0 ? Status() : Status(system_error("cannot sync it")));
  });
}

void FileServer::write_all_back(std::function<void()> done) {
  const auto rest = std::make_shared<Gathered>([told = std::move(done)](const Status&) { told(); });
  const auto known =
      std::make_shared<Gathered>([this, rest](const Status&) { last_writes_.await_all(rest); });
  for (const std::shared_ptr<File>& file : mapped())
    store_.data().write_back(file->container, {}, [this, file, known](const Status& written) {
      if (!written && table_.find(file->number) != nullptr)
        spdlog::error("{}: what was written into it is lost: {}", place_of(*file),
                      written.error().message());
    });
}

}  // namespace gob::file
