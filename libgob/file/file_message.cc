#include "libgob/file/file_message.h"

#include <fcntl.h>

#include <cerrno>
#include <limits>
#include <string>

#include "libgob/base/ids.h"
#include "libgob/container/container_record.h"

namespace gob::file {

namespace {

Error bad(const std::string& what) {
  return make_error(ErrorCode::kProtocol, "a file request or reply has " + what);
}

// One component of a path, which cannot lead anywhere but to an entry of its folder.
bool is_name(const std::string& name) {
  return !name.empty() && name.size() <= kMaxFileNameBytes && name != "." && name != ".." &&
         name.find('/') == std::string::npos && name.find('\0') == std::string::npos;
}

bool is_text(const std::string& text, std::size_t limit) {
  return !text.empty() && text.size() <= limit && text.find('\0') == std::string::npos;
}

constexpr std::uint64_t kMaxOffset = std::numeric_limits<std::int64_t>::max();

bool takes_name(FileOp op) {
  switch (op) {
    case FileOp::kLookup:
    case FileOp::kMakeNode:
    case FileOp::kMakeFolder:
    case FileOp::kUnlink:
    case FileOp::kRemoveFolder:
    case FileOp::kSymlink:
    case FileOp::kRename:
    case FileOp::kCreate:
      return true;
    default:
      return false;
  }
}

bool takes_second_name(FileOp op) { return op == FileOp::kRename || op == FileOp::kLink; }

bool is_xattr(FileOp op) {
  return op == FileOp::kSetXattr || op == FileOp::kGetXattr || op == FileOp::kRemoveXattr;
}

Status check_lock(const peer::FileRequest& request) {
  const auto op = op_of(request);
  if (static_cast<std::size_t>(request.locks_size()) > kMaxLocks) return bad("too many locks");
  const bool hands_over = op == FileOp::kOfferLocks || op == FileOp::kLocksMoved;
  if (op != FileOp::kGetLock && op != FileOp::kSetLock && op != FileOp::kDropLocks && !hands_over)
    return {};
  if (!request.has_lock()) return bad("no lock");
  const peer::FileLock& lock = request.lock();
  if (lock.type() != F_RDLCK && lock.type() != F_WRLCK && lock.type() != F_UNLCK)
    return bad("a lock of no type");
  if (lock.first() > lock.last()) return bad("a lock that ends before it begins");
  if (request.node() >= kMaxNodes || lock.joins().node() >= kMaxNodes)
    return bad("a node that cannot be");
  return {};
}

}  // namespace

int error_of_limits(const peer::FileRequest& request) {
  const FileOp op = op_of(request);
  if (takes_name(op) && request.name().size() > kMaxFileNameBytes) return ENAMETOOLONG;
  if (takes_second_name(op) && request.to_name().size() > kMaxFileNameBytes) return ENAMETOOLONG;
  if (op == FileOp::kSymlink && request.to_name().size() > kMaxLinkBytes) return ENAMETOOLONG;
  if (is_xattr(op) && request.name().size() > kMaxFileNameBytes) return ERANGE;
  if (op == FileOp::kSetXattr && request.data().size() > kMaxXattrBytes) return E2BIG;
  if (op == FileOp::kSeek && request.offset() > kMaxOffset) return ENXIO;
  if (op == FileOp::kListLocks && static_cast<std::size_t>(request.locks_size()) > kMaxLocks)
    return E2BIG;
  return 0;
}

Status check_file_request(const peer::FileRequest& request) {
  if (request.id() == 0) return bad("no id");
  if (request.op() == 0 || request.op() > kLastFileOp) return bad("an unknown operation");
  const FileOp op = op_of(request);
  if (static_cast<std::size_t>(request.caller().groups_size()) > kMaxGroups)
    return bad("too many groups");
  if (takes_name(op) && !is_name(request.name())) return bad("a name that cannot be");
  if (takes_second_name(op) && !is_name(request.to_name())) return bad("a name that cannot be");
  if (op == FileOp::kSymlink && !is_text(request.to_name(), kMaxLinkBytes))
    return bad("a link to nowhere");
  if (is_xattr(op) && !is_text(request.name(), kMaxFileNameBytes))
    return bad("an attribute without a name");
  if (request.data().size() > (op == FileOp::kWrite ? kMaxIoBytes : kMaxXattrBytes))
    return bad("too many bytes");
  if (op == FileOp::kRead && request.size() > kMaxIoBytes) return bad("too large a read");
  if (request.offset() > kMaxOffset || request.to_offset() > kMaxOffset ||
      request.size() > kMaxOffset || request.attributes().size() > kMaxOffset)
    return bad("an offset beyond the last");
  constexpr std::uint32_t kBillion = 1'000'000'000;
  if (request.attributes().accessed().nanoseconds() >= kBillion ||
      request.attributes().modified().nanoseconds() >= kBillion)
    return bad("a time that cannot be");
  return check_lock(request);
}

Status check_file_reply(const peer::FileReply& reply) {
  if (reply.id() == 0) return bad("no id");
  if (reply.error() > 4095) return bad("an error number that cannot be");
  if (reply.data().size() > kMaxIoBytes) return bad("too many bytes");
  if (static_cast<std::size_t>(reply.locks_size()) > kMaxLocks) return bad("too many locks");
  if (reply.moved_size() > 2) return bad("too many files moved");
  if (reply.container() > kMaxContainerId) return bad("a container that cannot be");
  for (const peer::FileEntry& entry : reply.entries())
    if (entry.name().empty() || entry.name().size() > kMaxFileNameBytes ||
        entry.name().find('/') != std::string::npos)
      return bad("a name that cannot be");
  return {};
}

Status check_file_body(const peer::FileBody& body) {
  switch (body.body_case()) {
    case peer::FileBody::kRequest:
      return check_file_request(body.request());
    case peer::FileBody::kReply:
      return check_file_reply(body.reply());
    case peer::FileBody::kForget:
      if (body.forget().files_size() != body.forget().counts_size() ||
          static_cast<std::size_t>(body.forget().files_size()) > kMaxForgets)
        return bad("references that do not match their counts");
      return {};
    case peer::FileBody::kCancel:
    case peer::FileBody::kRevoke:
    case peer::FileBody::kRevoked:
    case peer::FileBody::kGone:
      return {};
    case peer::FileBody::BODY_NOT_SET:
      break;
  }
  return bad("no body");
}

std::string to_words(FileOp op) {
  switch (op) {
    case FileOp::kRoot:
      return "find the root of an attachment";
    case FileOp::kLookup:
      return "look up a name";
    case FileOp::kGetAttributes:
      return "get attributes";
    case FileOp::kSetAttributes:
      return "set attributes or the size";
    case FileOp::kReadLink:
      return "read a symbolic link";
    case FileOp::kMakeNode:
      return "make a file";
    case FileOp::kMakeFolder:
      return "make a folder";
    case FileOp::kUnlink:
      return "remove a name";
    case FileOp::kRemoveFolder:
      return "remove a folder";
    case FileOp::kSymlink:
      return "make a symbolic link";
    case FileOp::kRename:
      return "rename";
    case FileOp::kLink:
      return "make a link";
    case FileOp::kOpen:
      return "open";
    case FileOp::kCreate:
      return "create and open";
    case FileOp::kRead:
      return "read";
    case FileOp::kWrite:
      return "write";
    case FileOp::kRelease:
      return "close";
    case FileOp::kSync:
      return "fsync";
    case FileOp::kOpenFolder:
      return "open a folder";
    case FileOp::kReadFolder:
      return "list a folder";
    case FileOp::kReleaseFolder:
      return "close a folder";
    case FileOp::kSpace:
      return "ask for the space of a file system";
    case FileOp::kSetXattr:
    case FileOp::kGetXattr:
    case FileOp::kListXattr:
    case FileOp::kRemoveXattr:
      return "use extended attributes";
    case FileOp::kAccess:
      return "ask for rights";
    case FileOp::kAllocate:
      return "allocate or punch";
    case FileOp::kCopyRange:
      return "copy a range";
    case FileOp::kSeek:
      return "seek data or holes";
    case FileOp::kGetLock:
      return "ask for a lock";
    case FileOp::kSetLock:
      return "lock or unlock";
    case FileOp::kDropLocks:
      return "drop locks";
    case FileOp::kMap:
      return "map for writing";
    case FileOp::kWriteBack:
      return "write mapped files to the disk";
    case FileOp::kListLocks:
      return "list the locks of a process";
    case FileOp::kOfferLocks:
    case FileOp::kKeepLocks:
    case FileOp::kLocksMoved:
      return "hand locks of a process over";
  }
  return "do operation " + std::to_string(static_cast<std::uint32_t>(op));
}

std::string to_words(const peer::FileRequest& request) {
  const bool reads = op_of(request) == FileOp::kGetAttributes && request.flags() == kWithLease;
  std::string text = to_words(reads ? FileOp::kRead : op_of(request));
  if (!request.name().empty()) text += " '" + request.name() + "'";
  const std::uint64_t bytes =
      op_of(request) == FileOp::kWrite ? request.data().size() : request.size();
  if (bytes != 0)
    text += " " + std::to_string(bytes) + " bytes at " + std::to_string(request.offset());
  return text;
}

}  // namespace gob::file
