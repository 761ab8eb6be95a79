// FileOp and the rules for file.proto's messages. A peer's message is checked before anything acts
// on it. Values and pure functions: no thread affinity.
#pragma once

#include <cstdint>
#include <string>

#include "libgob/base/result.h"
#include "libgob/file/file.pb.h"

namespace gob::file {

// Operations on files of another node; what they need is in check_file_request(). Numbers are on
// the wire.
enum class FileOp : std::uint32_t {
  kRoot = 1,  // the file or folder that a container stands for; `file` is the container's id
  kLookup,
  kGetAttributes,
  kSetAttributes,
  kReadLink,
  kMakeNode,
  kMakeFolder,
  kUnlink,
  kRemoveFolder,
  kSymlink,
  kRename,
  kLink,
  kOpen,
  kCreate,
  kRead,
  kWrite,
  kRelease,
  kSync,
  kOpenFolder,
  kReadFolder,
  kReleaseFolder,
  kSpace,
  kSetXattr,
  kGetXattr,
  kListXattr,
  kRemoveXattr,
  kAccess,
  kAllocate,
  kCopyRange,
  kSeek,
  kGetLock,
  kSetLock,
  kDropLocks,  // of one POSIX owner, when it closes the file
  kMap,        // programs will write the file's pages in memory
  // What programs have written into mapped files of an attachment gets to the disk; `file` is the
  // container's id. The reply's data say what failed.
  kWriteBack,
  // A process takes its locks along: see LockTable.
  kListLocks,   // that the owners in `locks`, all of the asking node, hold
  kOfferLocks,  // of one owner, to `node`
  kKeepLocks,   // of the owners in `locks`
  kLocksMoved,  // of one owner of `node`, to the asking one
};
inline constexpr std::uint32_t kLastFileOp = static_cast<std::uint32_t>(FileOp::kLocksMoved);

// Bits of FileRequest.set.
inline constexpr std::uint32_t kSetMode = 1;
inline constexpr std::uint32_t kSetUid = 2;
inline constexpr std::uint32_t kSetGid = 4;
inline constexpr std::uint32_t kSetSize = 8;
inline constexpr std::uint32_t kSetAccessed = 16;
inline constexpr std::uint32_t kSetAccessedNow = 32;
inline constexpr std::uint32_t kSetModified = 64;
inline constexpr std::uint32_t kSetModifiedNow = 128;

// FileRequest.flags of kGetAttributes: with a lease on the size, for a read of `size` bytes at
// `offset`.
inline constexpr std::uint32_t kWithLease = 1;

// Of a release nobody waits for the end, and the home does not tell it.
[[nodiscard]] constexpr bool is_answered(FileOp op) {
  return op != FileOp::kRelease && op != FileOp::kReleaseFolder;
}

inline constexpr std::size_t kMaxFileNameBytes = 255;
inline constexpr std::size_t kMaxLinkBytes = 4095;
inline constexpr std::size_t kMaxIoBytes = 1 << 20;  // of one read or write
inline constexpr std::size_t kMaxXattrBytes = 65536;
inline constexpr std::size_t kMaxForgets = 4096;  // of one message
inline constexpr std::size_t kMaxLocks = 1024;    // listed in one message

// A program may ask the kernel for what no file system has, such as a name that is too long: the
// errno that it gets. 0: the request may go to the home.
[[nodiscard]] int error_of_limits(const peer::FileRequest& request);

// kProtocol unless the message is one that a correct node sends.
[[nodiscard]] Status check_file_body(const peer::FileBody& body);
[[nodiscard]] Status check_file_request(const peer::FileRequest& request);
[[nodiscard]] Status check_file_reply(const peer::FileReply& reply);

[[nodiscard]] inline FileOp op_of(const peer::FileRequest& request) {
  return static_cast<FileOp>(request.op());
}

// For the log: "write 4096 bytes at 8192".
[[nodiscard]] std::string to_words(FileOp op);
[[nodiscard]] std::string to_words(const peer::FileRequest& request);

}  // namespace gob::file
