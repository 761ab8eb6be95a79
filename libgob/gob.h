/*
 * gob.h: containers of the cluster in a program's memory, and barriers, locks and condition
 * variables across its nodes. C99; every name begins with gob_ or GOB_.
 *
 * Results: functions that return int give 0 (or the value described) when they succeed and a
 * negative errno when they fail; gob_last_error() then says in words what was tried and why it
 * failed. Errors every function may return besides those described:
 *   -EINVAL    an argument is wrong, or the connection belongs to the process that forked this one
 *   -ENOTCONN  gobd ended or the connection broke; gob_disconnect() and connect again
 *   -ENOMEM    no memory
 *
 * Threads: any number of threads may use a connection and its containers at once, except that
 * nothing may run during gob_disconnect() on that connection or gob_close() on that container.
 * Do not cancel a thread inside, and do not call from a signal handler.
 *
 * Faults: reading or writing a mapping waits until the page is here. A page that cannot be had (it
 * died with a node, or was not to be had within gobd's page_timeout) raises SIGBUS, as does every
 * page of every mapping when gobd itself ends: never are its bytes replaced by zeros. One line on
 * stderr then names the containers, unless GOB_QUIET is in the environment at gob_connect().
 *
 * fork: a child has none of the mappings and may not use the connection (-EINVAL); it makes its own
 * with gob_connect(). exec closes everything. Processes made by clone(2) without exec and without
 * CLONE_VM | CLONE_THREAD are not supported.
 */
#ifndef GOB_H
#define GOB_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define GOB_API __attribute__((visibility("default")))
#else
#define GOB_API
#endif

#define GOB_DEFAULT_SOCKET "/run/gob/gobd.sock"

typedef struct gob_connection gob_connection;
typedef struct gob_container gob_container;

/* Access to a container: GOB_READ, or GOB_READ | GOB_WRITE. */
#define GOB_READ 1
#define GOB_WRITE 2

/* For timeout_ms: wait without end. Other negative values are -EINVAL. */
#define GOB_FOREVER (-1)

/* ---- connection ------------------------------------------------------------------------------ */

/*
 * Connects to the gobd of this node. socket_path NULL takes $GOB_SOCKET, or else
 * GOB_DEFAULT_SOCKET. *out is the connection, to be ended by gob_disconnect().
 * -ENOENT, -ECONNREFUSED: no gobd runs there; -EACCES: the socket is not for this user; -EAGAIN:
 * gobd serves as many programs as it may; -EPROTONOSUPPORT: gobd is of another release.
 */
GOB_API int gob_connect(const char* socket_path, gob_connection** out);

/*
 * Ends the connection: unmaps its mappings, closes its containers, releases its locks, and fails
 * barriers it waits in. NULL is fine. In a forked child it does nothing. Returns 0.
 */
GOB_API int gob_disconnect(gob_connection* connection);

/* Position of this node in the cluster's list of nodes, from 0. */
GOB_API int gob_node_id(const gob_connection* connection);
/* Number of nodes in the cluster's configuration. */
GOB_API int gob_node_count(const gob_connection* connection);
/* Name of node `id`, until gob_disconnect(); NULL if there is none. */
GOB_API const char* gob_node_name(const gob_connection* connection, int id);
/* Bytes of a page: the unit of coherence, and of offsets in gob_map(). */
GOB_API size_t gob_page_size(const gob_connection* connection);

/* ---- containers ------------------------------------------------------------------------------ */

/*
 * Creates a container of `size_bytes` bytes, all zero, that every node can open by `name` (1 to 128
 * bytes, printable, no '/', no leading dot). `mode`: permission bits (0600, 0660, ...) for owner,
 * group and others; the owner is the caller. It lives until gob_remove(), whoever uses it.
 * Memory is taken as pages are touched. -EEXIST: the name is taken.
 */
GOB_API int gob_create(gob_connection* connection, const char* name, uint64_t size_bytes,
                       unsigned mode);

/*
 * Opens a container. `access`: GOB_READ, or GOB_READ | GOB_WRITE. *out is closed by gob_close() or
 * with the connection. -ENOENT: no such container; -EACCES: its mode does not allow it.
 */
GOB_API int gob_open(gob_connection* connection, const char* name, int access, gob_container** out);

/*
 * Opens the container of a file that `fd` has open, for reading and writing, in a gob mount of this
 * node. Its mappings are coherent with each other and with read(2) and write(2) through the mounts
 * of all nodes. The file keeps its length: what is written beyond its end is forgotten, and to make
 * it longer is ftruncate()'s business; a mapping may reach beyond the end, up to 16 TiB. fsync(fd)
 * puts on the disk what any node wrote before; without it that happens within seconds. `fd` may be
 * closed. gob_size() is the length at this moment. -ENOTTY: not in a gob mount; -EACCES: not open
 * for reading and writing (mmap(2) of a descriptor for reading only works through the mount,
 * coherently); -ENODEV: not a regular file.
 */
GOB_API int gob_open_file(gob_connection* connection, int fd, gob_container** out);

/* Closes a container; its mappings stay. NULL is fine. Returns 0. */
GOB_API int gob_close(gob_container* container);

/*
 * Removes a container by name, for its owner or root. Its memory is freed on every node; programs
 * that still map it get SIGBUS. -ENOENT, -EPERM.
 */
GOB_API int gob_remove(gob_connection* connection, const char* name);

/* Size in bytes, as created; of a file, as opened. */
GOB_API int gob_size(const gob_container* container, uint64_t* size_bytes);

/*
 * Maps `length` bytes of the container from `offset` (a multiple of the page size) into the
 * program's memory; length 0: up to the end. `access` is at most that of gob_open(). *address is
 * the place, page aligned. All mappings of a container, on all nodes, show the same bytes: a read
 * gives the last write in one order for everybody (sequential consistency), as for threads of one
 * process, and as there, C and C++ ask for locks, barriers or atomics between conflicting accesses.
 * Do not unmap or remap the range by other means.
 * -EACCES: more access than opened; -EINVAL: outside of the container; -EPERM, -ENOTSUP: this
 * kernel or its settings do not let the program hand its page faults to gobd.
 */
GOB_API int gob_map(gob_container* container, uint64_t offset, size_t length, int access,
                    void** address);

/* Ends the mapping that gob_map() placed at `address`. -EINVAL: there is none. */
GOB_API int gob_unmap(gob_connection* connection, void* address);

/* ---- synchronisation across the cluster -------------------------------------------------------
 */
/*
 * Objects are named (1 to 128 bytes), exist by being used, and need no clean-up. What was written
 * before a barrier, an unlock or a signal is seen after the matching return on any node.
 * All block in gobd, without spinning, and are not interrupted by signals.
 * -ETIMEDOUT: `timeout_ms` passed. -EAGAIN: the node that keeps the object has too many to keep.
 */

/*
 * Waits until `count` participants are in barrier `name`. Returns 1 to exactly one of them and 0 to
 * the others. -EINVAL: others wait with another count; -EOWNERDEAD: a participant ended or its
 * node died, so the barrier cannot fill: all participants of this round get it.
 */
GOB_API int gob_barrier_wait(gob_connection* connection, const char* name, unsigned count,
                             int64_t timeout_ms);

/*
 * Takes lock `name` for the calling thread; granted in order of request, not recursive (-EDEADLK).
 * -EOWNERDEAD: taken, but the thread's program that held it died: what it guards may be half done.
 */
GOB_API int gob_lock(gob_connection* connection, const char* name, int64_t timeout_ms);
/* The same with a timeout_ms of 0: takes it if it is free, else -EBUSY. */
GOB_API int gob_trylock(gob_connection* connection, const char* name);
/* -EPERM: the calling thread does not hold it. */
GOB_API int gob_unlock(gob_connection* connection, const char* name);

/*
 * Releases `lock`, which the calling thread holds, waits for a signal of `cond`, and holds the lock
 * again when it returns 0, -ETIMEDOUT or -EOWNERDEAD. As with all condition variables, test the
 * condition in a loop. All waiters of a condition variable use the same lock.
 */
GOB_API int gob_cond_wait(gob_connection* connection, const char* cond, const char* lock,
                          int64_t timeout_ms);
/* Wakes one waiter of `cond`, whose waiters use `lock`. */
GOB_API int gob_cond_signal(gob_connection* connection, const char* cond, const char* lock);
/* Wakes all of them. */
GOB_API int gob_cond_broadcast(gob_connection* connection, const char* cond, const char* lock);

/* ---- errors -----------------------------------------------------------------------------------
 */

/*
 * What the last failed call of this thread tried and why it failed, in one line; "" if none failed.
 * Valid until the thread's next call.
 */
GOB_API const char* gob_last_error(void);
/* The system's words for a result of this library (negative or positive errno). */
GOB_API const char* gob_strerror(int error);
/* Version of the library, "0.1.0". */
GOB_API const char* gob_version(void);

#ifdef __cplusplus
}
#endif

#endif
