// What the subcommands do: each makes its requests and prints the answer. Used by one thread.
#pragma once

#include "gobctl/arguments.h"
#include "libgob/base/result.h"

namespace gob::ctl {

Status run_create(const Arguments& arguments, Io& io);
Status run_list(const Arguments& arguments, Io& io);
Status run_remove(const Arguments& arguments, Io& io);
Status run_attach(const Arguments& arguments, Io& io);
Status run_detach(const Arguments& arguments, Io& io);
Status run_sync(const Arguments& arguments, Io& io);
Status run_flush(const Arguments& arguments, Io& io);
Status run_stat(const Arguments& arguments, Io& io);
Status run_nodes(const Arguments& arguments, Io& io);
Status run_leave(const Arguments& arguments, Io& io);
Status run_ps(const Arguments& arguments, Io& io);
Status run_fg(const Arguments& arguments, Io& io);
Status run_wait(const Arguments& arguments, Io& io);
Status run_kill(const Arguments& arguments, Io& io);
Status run_cluster_up(const Arguments& arguments, Io& io);
Status run_cluster_down(const Arguments& arguments, Io& io);
Status run_cluster_restart(const Arguments& arguments, Io& io);
Status run_cluster_status(const Arguments& arguments, Io& io);

}  // namespace gob::ctl
