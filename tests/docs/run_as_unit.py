#!/usr/bin/env python3
"""Runs a command as a unit of systemd would: with its bounding set of capabilities, without new
privileges, under its filter of system calls (a call that it does not have kills the process).
Needs root, systemd-analyze and libseccomp.

    run_as_unit.py UNIT [DROP-IN...] -- COMMAND...
"""
import ctypes
import os
import re
import subprocess
import sys

PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
SCMP_ACT_KILL_PROCESS = 0x80000000
SCMP_ACT_ALLOW = 0x7FFF0000


def settings(paths):
    """Words of each list of the [Service] sections, as systemd joins them: an empty one begins anew."""
    found = {}
    for path in paths:
        with open(path, encoding="utf-8") as unit:
            for line in unit:
                name, equals, value = line.strip().partition("=")
                if not equals or name.startswith("#"):
                    continue
                found[name] = [*found.get(name, []), *value.split()] if value else []
    return found


def capabilities():
    """Number of each capability, by name."""
    with open("/usr/include/linux/capability.h", encoding="utf-8") as header:
        return {m[1]: int(m[2]) for m in re.finditer(r"#define (CAP_\w+)\s+(\d+)", header.read())}


def system_calls(words):
    """Names of the system calls of a SystemCallFilter=, groups opened."""
    calls = set()
    for word in words:
        if not word.startswith("@"):
            calls.add(word)
            continue
        listed = subprocess.run(["systemd-analyze", "--no-pager", "syscall-filter", word],
                                check=True, capture_output=True, text=True).stdout.split("\n")
        calls |= system_calls([w.strip() for w in listed[1:] if w.strip() and "#" not in w])
    return calls


def check(result, what):
    if result != 0:
        sys.exit(f"run_as_unit.py: {what} failed: {result}")


def main():
    at = sys.argv.index("--")
    unit, command = settings(sys.argv[1:at]), sys.argv[at + 1:]
    libc = ctypes.CDLL(None, use_errno=True)
    # @default is what any program needs; systemd always adds it.
    calls = system_calls(unit["SystemCallFilter"] + ["@default"])
    keep = set(unit["CapabilityBoundingSet"])
    numbers = capabilities()
    if unknown := keep - numbers.keys():
        sys.exit(f"run_as_unit.py: no such capability: {unknown}")
    for name, number in numbers.items():
        if name not in keep and name != "CAP_LAST_CAP":
            check(libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0), f"dropping {name}")
    if unit.get("NoNewPrivileges") == ["yes"]:
        check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "giving up new privileges")
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(SCMP_ACT_KILL_PROCESS)))
    for call in calls:
        number = seccomp.seccomp_syscall_resolve_name(call.encode())
        if number >= 0:  # the others belong to other machines
            check(seccomp.seccomp_rule_add_array(context, ctypes.c_uint32(SCMP_ACT_ALLOW), number, 0, None),
                  f"allowing {call}")
    check(seccomp.seccomp_load(context), "loading the filter")
    os.execvp(command[0], command)


main()
