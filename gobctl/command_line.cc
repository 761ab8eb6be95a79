#include "gobctl/command_line.h"

#include "gobctl/commands.h"

namespace gob::ctl {
namespace {

constexpr const char* kTarget = "Which node";

void declare_target(CLI::App& app, Arguments& arguments) {
  auto* socket = app.add_option("--socket", arguments.socket, "Control socket of the gobd to ask")
                     ->type_name("PATH")
                     ->group(kTarget);
  app.add_option("--node", arguments.node, "Node of the development cluster to ask, such as n2")
      ->type_name("NAME")
      ->group(kTarget)
      ->excludes(socket)
      ->option_text("NAME");
  app.add_option("--dir", arguments.dir, "Directory of the development cluster")
      ->type_name("DIR")
      ->group(kTarget);
}

void declare_dir(CLI::App& app, Arguments& arguments) {
  app.add_option(
         "--dir", arguments.dir,
         "Directory of its files; without it $GOB_DIR, $XDG_RUNTIME_DIR/gob or /tmp/gob-UID")
      ->type_name("DIR");
}

void declare_json(CLI::App& app, Arguments& arguments) {
  app.add_flag("--json", arguments.json, "Answer in JSON");
}

void declare_timeout(CLI::App& app, Arguments& arguments, const char* meaning) {
  app.add_option("--timeout", arguments.timeout_seconds, meaning)
      ->type_name("SECONDS")
      ->check(CLI::Range(0.1, 3600.0))
      ->option_text("SECONDS (30)");
}

void declare_name(CLI::App& app, Arguments& arguments, bool required = true) {
  app.add_option("NAME", arguments.name, "Name of the container")
      ->required(required)
      ->option_text(" ");
}

void declare_migrant(CLI::App& app, Arguments& arguments) {
  app.add_option("MIGRANT", arguments.name,
                 "A number that it has or had, here before elsewhere; NODE/PID where it was "
                 "started; or its command")
      ->required()
      ->option_text(" ");
}

void declare_gobd(CLI::App& app, Arguments& arguments) {
  app.add_option("--gobd", arguments.gobd,
                 "The gobd program to start, if not the one beside gobctl")
      ->type_name("PATH");
}

const Subcommand kSubcommands[] = {
    {"cluster", "up", "Start a development cluster on this machine",
     "Starts one gobd a node, named n1, n2, ..., and returns when all serve.\n\n"
     "  gobctl cluster up --nodes 3\n"
     "  gobctl cluster up --nodes 4 --budget 64M --swap 1G   small nodes, to see swapping\n"
     "  sudo gobctl cluster up --netns                       a network namespace a node\n"
     "  gobctl cluster up --mount                            each with a mount for attached files",
     [](CLI::App& app, Arguments& arguments) {
       app.add_option("--nodes", arguments.nodes, "How many nodes")
           ->type_name("N")
           ->check(CLI::Range(1, 64))
           ->option_text("N (3)");
       app.add_option("--budget", arguments.budget, "Memory for page frames of each node")
           ->option_text("SIZE (256M)");
       app.add_option("--swap", arguments.swap, "Size of each node's swap file; none without it")
           ->option_text("SIZE");
       app.add_option("--shards", arguments.shards, "Threads that serve pages, of each node")
           ->check(CLI::Range(1, 64))
           ->option_text("N (1)");
       app.add_flag("--netns", arguments.netns,
                    "Each node in a network namespace of its own (needs root)");
       app.add_flag("--mount", arguments.mount,
                    "Each node with a mount for attached files, DIR/n1.mnt and so on");
       declare_gobd(app, arguments);
       declare_timeout(app, arguments, "How long the nodes may take to be ready");
       declare_dir(app, arguments);
     },
     run_cluster_up},
    {"cluster", "down", "Stop the development cluster and remove its files",
     "Nodes get SIGTERM, and SIGKILL when they have not ended in time.\n\n"
     "  gobctl cluster down\n"
     "  gobctl cluster down --keep     leaves configurations and logs to be read",
     [](CLI::App& app, Arguments& arguments) {
       app.add_flag("--keep", arguments.keep, "Keep the files");
       declare_timeout(app, arguments, "How long the nodes may take to end before they are killed");
       declare_dir(app, arguments);
     },
     run_cluster_down},
    {"cluster", "restart", "Start one node of the development cluster again",
     "Ends the node if it runs. It comes back empty, as a new member.\n\n"
     "  gobctl cluster up --dir /tmp/gob\n"
     "  kill -9 $(cat /tmp/gob/n2/gobd.pid)           see what a crash does\n"
     "  gobctl cluster restart n2 --dir /tmp/gob",
     [](CLI::App& app, Arguments& arguments) {
       app.add_option("NODE", arguments.name, "Name of the node, such as n2")
           ->required()
           ->option_text(" ");
       declare_gobd(app, arguments);
       declare_timeout(app, arguments, "How long it may take to end, and to be ready");
       declare_dir(app, arguments);
     },
     run_cluster_restart},
    {"cluster", "status", "Show which nodes of the development cluster run",
     "The exit status is 0 if all nodes serve, 3 if one does not.",
     [](CLI::App& app, Arguments& arguments) {
       declare_json(app, arguments);
       declare_dir(app, arguments);
     },
     run_cluster_status},
    {"", "create", "Create a container",
     "Memory is used only for pages that programs touch, so a size may exceed that of all "
     "nodes.\n\n"
     "  gobctl create matrix --size 64M\n"
     "  gobctl create shared --size 1G --mode 0660    for the group, too",
     [](CLI::App& app, Arguments& arguments) {
       declare_name(app, arguments);
       app.add_option("--size", arguments.size, "Size in bytes, or with K, M, G, T: 64M, 1.5G")
           ->required()
           ->option_text("SIZE REQUIRED");
       app.add_option("--mode", arguments.mode,
                      "Who may read and write it, in octal, as for a file")
           ->option_text("MODE (0600)");
       declare_json(app, arguments);
       declare_target(app, arguments);
     },
     run_create},
    {"", "ls", "List the containers of the cluster",
     "  gobctl ls\n  gobctl ls --quiet | xargs -r gobctl rm     remove all of them",
     [](CLI::App& app, Arguments& arguments) {
       app.add_flag("-q,--quiet", arguments.quiet, "Names only, one a line");
       app.add_flag("-a,--all", arguments.all,
                    "Also those that hold the bytes of single files in attached folders, or what is "
                    "known of a process that moved");
       declare_json(app, arguments);
       declare_target(app, arguments);
     },
     run_list},
    {"", "stat", "Show what happens in a container, or on a node",
     "Counts are those of the node that is asked, since its gobd started.\n\n"
     "  gobctl stat                        the node, and a line for each container\n"
     "  gobctl stat matrix --node n2       one container as n2 sees it: its faults, latencies,\n"
     "                                     traffic, and the pages that bounce between nodes\n"
     "  gobctl stat matrix --watch 1       again every second, with what happened meanwhile\n"
     "  gobctl stat --transport            how each peer is reached, and the RDMA device\n"
     "  gobctl stat --json | jq .node.epoch",
     [](CLI::App& app, Arguments& arguments) {
       declare_name(app, arguments, false);
       app.add_flag("--transport", arguments.transport,
                    "How each peer is reached: RDMA device, queue pairs, errors, or why TCP")
           ->excludes(app.get_option("NAME"));
       app.add_option("--watch", arguments.watch_seconds, "Again every so many seconds")
           ->check(CLI::Range(0.1, 86400.0))
           ->option_text("SECONDS");
       app.add_option("--rounds", arguments.rounds, "With --watch: stop after so many answers")
           ->check(CLI::Range(1u, 1u << 30))
           ->option_text("N");
       app.add_option("--top", arguments.top_pages, "How many bouncing pages to show at most")
           ->check(CLI::Range(0, 64))
           ->option_text("N (10)");
       declare_json(app, arguments);
       declare_target(app, arguments);
     },
     run_stat},
    {"", "rm", "Remove containers",
     "Programs that have it mapped keep it until they unmap it; the name is free at once.\n\n"
     "  gobctl rm matrix",
     [](CLI::App& app, Arguments& arguments) {
       app.add_option("NAME", arguments.names, "Names of the containers")
           ->required()
           ->option_text("...");
       declare_target(app, arguments);
     },
     run_remove},
    {"", "attach", "Share files or a System V segment of a node with every node",
     "The path is one of the node that is asked, the home of these files: they stay on its disk.\n"
     "Every node that has a mount (gobd --mount) shows them there under NAME.\n\n"
     "A segment has to exist on the node that is asked (shmget), and its kernel to have linkers\n"
     "(gobd --linker). The first node makes the container NAME, with what is in the segment; the\n"
     "segments of others, of the same size, show that from then on, and what was in them is\n"
     "forgotten. Programs use shmget and shmat as ever.\n\n"
     "With --link a file is shared in the same way, by the kernel and without a mount: programs that\n"
     "know nothing of Gobelins map, read and write it under its own path. On the first node that is\n"
     "an existing file; on others one of the same size, or one that is made there.\n\n"
     "  gobctl attach home --tree /home --node n1      a folder and all below it\n"
     "  gobctl attach data --file /srv/data.bin        one file\n"
     "  gobctl attach board --segment 0x2a --node n1   and again with --node n2\n"
     "  gobctl attach table --file /srv/table --link --node n1   and again with --node n2",
     [](CLI::App& app, Arguments& arguments) {
       declare_name(app, arguments);
       app.add_option("--tree", arguments.tree, "A folder, by its full path")->type_name("DIR");
       app.add_option("--file", arguments.file, "A file, by its full path")->type_name("PATH");
       app.add_option("--segment", arguments.segment, "A System V segment, by its key")
           ->type_name("KEY");
       app.add_flag("--link", arguments.link, "Link the file itself, by the patched kernel");
       declare_json(app, arguments);
       declare_target(app, arguments);
     },
     run_attach},
    {"", "detach", "End the sharing of attached files, or of this node's segment or linked file",
     "The files stay on their home's disk as a local program would have left them, with all that was\n"
     "stored in mapped ones before. Programs that have some open get ESTALE. If the disk does not take\n"
     "it, or the home is not there, they stay attached, and the message says why; with --lossy they are\n"
     "detached all the same.\n\n"
     "A segment or linked file is detached on the node that is asked: it keeps all bytes (a file, on\n"
     "its disk), and is its own from then on. Where it was attached first, ask last: the container\n"
     "goes with it, and with that what other nodes still had attached (SIGBUS, EIO).\n"
     "If pages are lost for good, with a node that died, it stays attached, and the message says\n"
     "which they are. With --lossy it is detached all the same: these pages are ZEROS from then on,\n"
     "and are listed, each of 4096 bytes.\n\n"
     "  gobctl detach home\n"
     "  gobctl detach board --lossy --node n1",
     [](CLI::App& app, Arguments& arguments) {
       declare_name(app, arguments);
       app.add_flag("--lossy", arguments.lossy, "Also with losses; zeros for lost pages of a segment or linked file");
       declare_json(app, arguments);
       declare_target(app, arguments);
     },
     run_detach},
    {"", "sync", "Write a linked file to the disk of a node, with what all nodes have written",
     "For files attached with --link. When it returns, all that programs of any node had written\n"
     "before is on the disk of the node that is asked, which fsync(2) there does not promise. Each\n"
     "page comes to this node once; programs go on. At the first node it is the copy that counts.\n\n"
     "  gobctl sync table --node n1",
     [](CLI::App& app, Arguments& arguments) {
       declare_name(app, arguments);
       declare_timeout(app, arguments, "How long to wait for the end");
       declare_target(app, arguments);
     },
     run_sync},
    {"", "nodes", "List the nodes of the cluster",
     "  gobctl nodes\n  gobctl nodes --node n2     as n2 sees it",
     [](CLI::App& app, Arguments& arguments) {
       app.add_flag("-q,--quiet", arguments.quiet, "Names only, one a line");
       declare_json(app, arguments);
       declare_target(app, arguments);
     },
     run_nodes},
    {"", "ps", "Show the processes that were moved",
     "All in the cluster, whichever node is asked, and for ten minutes also those that ended.\n"
     "PAGES OUT have not reached the process yet; STATE: moving, arriving (some are out), running,\n"
     "how it ended, or unknown (its node, or what looked after it there, died). Needs root.\n\n"
     "  gobctl ps\n"
     "  gobctl ps --here --node n2     only what is on n2\n"
     "  gobctl ps --json | jq '.[] | select(.out_pages > 0)'",
     [](CLI::App& app, Arguments& arguments) {
       app.add_flag("--here", arguments.here, "Only those on the node that is asked");
       app.add_flag("-q,--quiet", arguments.quiet, "Only NODE/PID of those that live, one a line");
       declare_json(app, arguments);
       declare_target(app, arguments);
     },
     run_ps},
    {"", "wait", "Wait for the end of a process that was moved",
     "Returns with its own exit status, or 128 and the number of the signal that ended it, wherever\n"
     "it was by then. Exit status 125: it could not be waited for, or nobody knows its end.\n\n"
     "  gobmigrate 4711 n2; gobctl wait 4711",
     [](CLI::App& app, Arguments& arguments) {
       declare_migrant(app, arguments);
       app.add_option("--limit", arguments.limit_seconds, "Give up after so long (exit status 125)")
           ->check(CLI::Range(0.1, 1e9))
           ->option_text("SECONDS");
       declare_json(app, arguments);
       declare_target(app, arguments);
     },
     run_wait},
    {"", "fg", "Be in the foreground for a process that was moved",
     "What is typed at this terminal goes to the process, wherever it is, until it ends; what it\n"
     "writes appears at the terminal where it was started, so that is where to call this.\n"
     "Ctrl-Z gives the terminal back to the shell, and the process goes on; all other keys, Ctrl-C\n"
     "too, are the process's. Exit status: as \"gobctl wait\".\n\n"
     "  gobmigrate 4711 n2; gobctl fg 4711",
     [](CLI::App& app, Arguments& arguments) {
       declare_migrant(app, arguments);
       declare_json(app, arguments);
       declare_target(app, arguments);
     },
     run_fg},
    {"", "kill", "Send a signal to a process that was moved",
     "Wherever it is by now, from any node. If it is being moved, it gets the signal afterwards.\n\n"
     "  gobctl kill 4711                  SIGTERM, as kill(1) on the node where it was started\n"
     "  gobctl kill n1/4711 --signal KILL --all",
     [](CLI::App& app, Arguments& arguments) {
       declare_migrant(app, arguments);
       app.add_option("--signal", arguments.signal, "Which one: TERM, KILL, USR1, ..., or its number")
           ->option_text("SIGNAL (TERM)");
       app.add_flag("--all", arguments.all, "To all processes that moved with it or that it started");
       declare_timeout(app, arguments, "How long it may take, with a move that is under way");
       declare_target(app, arguments);
     },
     run_kill},
    {"", "flush", "Make a node give its pages of a container away",
     "They go to other nodes that have room, else to swap. For tests and administrators.\n\n"
     "  gobctl flush matrix --node n1",
     [](CLI::App& app, Arguments& arguments) {
       declare_name(app, arguments);
       declare_timeout(app, arguments, "How long to wait for the end");
       declare_json(app, arguments);
       declare_target(app, arguments);
     },
     run_flush},
    {"", "leave", "Make a node leave the cluster and end",
     "Its pages go to the other nodes first. Exit status 8: it could not in time, and stays.\n\n"
     "  gobctl leave --node n3",
     [](CLI::App& app, Arguments& arguments) {
       declare_timeout(app, arguments, "How long handing over may take");
       declare_target(app, arguments);
     },
     run_leave},
};

}  // namespace

CommandLine::CommandLine()
    : app_("gobctl: shows and steers Gobelins, memory that the nodes of a cluster share.",
           "gobctl") {
  app_.set_version_flag("--version", "gobctl " GOB_VERSION);
  app_.require_subcommand(0, 1);
  app_.get_formatter()->column_width(28);
  app_.footer(
      "To begin:\n"
      "  gobctl cluster up --nodes 3       a cluster of three nodes on this machine\n"
      "  gobctl create demo --size 64M\n"
      "  gobctl stat demo --node n2\n"
      "  gobctl cluster down\n\n"
      "gobctl SUBCOMMAND --help says more. gobd is found by --socket, --node, $GOB_SOCKET, a\n"
      "development cluster, /run/gob/gobd.sock, in this order. Manual: gobctl(1).");
  CLI::App* cluster = app_.add_subcommand("cluster", "A development cluster on this machine");
  cluster->require_subcommand(0, 1);
  cluster->footer(
      "One gobd for each node, all on this machine and all yours; for trying things out and for\n"
      "tests. gobd(8) tells how to run a cluster of several machines.");
  for (const Subcommand& entry : kSubcommands) {
    CLI::App& parent = *entry.group == '\0' ? app_ : *cluster;
    CLI::App* sub = parent.add_subcommand(entry.name, entry.summary);
    sub->footer(entry.help);
    entry.declare(*sub, arguments_);
    sub->final_callback([this, &entry] { chosen_ = &entry; });
  }
  CLI::App* completion = app_.add_subcommand("completion", "Print a completion script");
  completion->group("");  // for installers: not in the help
  completion->add_option("SHELL", arguments_.shell)
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
}

}  // namespace gob::ctl
