#!/usr/bin/env python3
"""What the patch costs, in instructions: cost.py [--results DIR] [--unpatched CSV]

Boots the unpatched and the patched kernel in an emulator that counts
instructions (so a repeat gives nearly the same numbers), and compares
  - page faults, reads and writes where nothing is linked: unpatched, patched,
    patched while something else is linked;
  - a fault that a daemon serves through /dev/gob with one that it serves through
    userfaultfd, and faults on pages that are here with those of plain memory.
Instructions of the whole machine: program, kernel, daemon, and the switches between
them. Writes DIR/kernel_patch/data.csv and run.json (DIR: results, beside this
folder). Builds the kernels where the cache has them not (build.sh lean and base).
CSV: the data.csv of an earlier run, whose numbers of the unpatched kernel are taken;
they are the same as long as source package, lean.config and gob_cost.c are.
Ends with 1 if a target is missed, 77 if a kernel cannot be built here.
"""
import argparse
import csv
import datetime
import json
import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
EMULATOR = "-icount shift=0 -smp 1"


def guest(kernel, command):
    """Runs a command in a guest; {name: instructions} of its lines 'cost NAME N' and 'fault NAME N'."""
    run = subprocess.run(
        [HERE / "try.sh", "-k", kernel, "-t", "600", command],
        env={**os.environ, "QEMU_ARGUMENTS": EMULATOR},
        stdout=subprocess.PIPE, text=True, check=False)
    if run.returncode:
        sys.stderr.write(run.stdout)
        print(f"cost.py: '{command}' on the {kernel} kernel ended with {run.returncode}", file=sys.stderr)
        sys.exit(77 if run.returncode == 77 else 1)
    return {m[1]: int(m[2]) for m in re.finditer(r"^(?:cost|fault) (\w+) (\d+)$", run.stdout, re.M)}


def target(what, measured, must, goal=None):
    return {"what": what, "measured": round(measured, 4), "must": must, "goal": goal,
            "better": "smaller", "met": measured <= must}


def machine():
    cpu = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    kernel = os.uname()
    return {"cpu": cpu[1] if cpu else kernel.machine, "cores": os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "kernel": f"{kernel.sysname} {kernel.release}", "load_average": os.getloadavg()[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=pathlib.Path, default=HERE.parent / "results")
    parser.add_argument("--unpatched", type=pathlib.Path, metavar="CSV")
    arguments = parser.parse_args()
    out = arguments.results / "kernel_patch"

    if arguments.unpatched:
        with open(arguments.unpatched, newline="") as file:
            rows = [r for r in csv.DictReader(file) if r["unpatched_instructions"]]
        base = {r["case"]: int(r["unpatched_instructions"]) for r in rows}
    else:
        base = guest("base", "/gob_cost /mnt/cost")
    off = guest("lean", "insmod /gob.ko && /gob_cost /mnt/cost")
    on = guest("lean", "insmod /gob.ko && /gob_cost on /mnt/cost")
    served = guest("lean", "insmod /gob.ko && /gob_cost faults")
    if not (base and base.keys() == off.keys() == on.keys()):
        sys.exit("cost.py: the guests did not measure the same things")

    targets = [
        target("nothing linked, most of all over the unpatched kernel", max(off[n] / base[n] for n in base), 1.01),
        target("something else linked, most of all over the unpatched kernel",
               max(on[n] / base[n] for n in base), 1.01),
        target("fault served through /dev/gob over userfaultfd", served["gob_read"] / served["userfaultfd_read"],
               1.0, 0.5),
        target("read fault on a page that is here over plain memory",
               served["gob_local_read"] / served["plain_local_read"], 1.2),
        target("write fault on a page that is here over plain memory",
               served["gob_local_write"] / served["plain_local_write"], 1.2),
    ]
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "data.csv", "w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["case", "unpatched_instructions", "patched_instructions", "patched_linked_elsewhere_instructions"])
        rows.writerows([n, base[n], off[n], on[n]] for n in base)
        rows.writerows([n, "", served[n], ""] for n in served)
    commit = subprocess.run(["git", "-C", HERE, "rev-parse", "--short=12", "HEAD"],
                            stdout=subprocess.PIPE, text=True, check=False).stdout.strip()
    record = {
        "title": "Kernel patch: instructions where nothing is linked, and of faults that a daemon serves",
        "commit": commit,
        "command": "kernel-patch/cost.py" + (" --unpatched ..." if arguments.unpatched else ""),
        "time": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": machine(), "parameters": {"emulator": f"qemu-system-x86_64 {EMULATOR}", "pages": 1024},
        "targets": targets,
        "notes": ["medians of 1,024 where nothing is linked, means of 1,024 where pages are served",
                  "instructions of the whole emulated machine with one processor"] +
                 (["the unpatched kernel's numbers are those of an earlier run"] if arguments.unpatched else []),
    }
    (out / "run.json").write_text(json.dumps(record, indent=2) + "\n")
    for t in targets:
        print(f"{'met ' if t['met'] else 'MISSED'} {t['measured']:.4f} (at most {t['must']}) {t['what']}")
    sys.exit(0 if all(t["met"] for t in targets) else 1)


main()
