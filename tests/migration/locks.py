"""Programs of locks_test.sh that lock files: locks.py ROLE NAME FOLDER [HELD].

They write lines to the file NAME, and do what the test wants when it makes NAME.something.
"""

import fcntl
import os
import sqlite3
import struct
import sys
import time

ROLE, NAME, FOLDER = sys.argv[1:4]
HELD = sys.argv[4] if len(sys.argv) > 4 else NAME + ".held"


def say(text):
    with open(NAME, "a") as out:
        out.write(text + "\n")


def told(what):
    return os.path.exists(f"{NAME}.{what}")


def wait_until(what):
    number = 0
    while not told(what):
        say(f"{number} until {what} wrong 0")
        number += 1
        time.sleep(0.02)


def open_file(name):
    return os.open(f"{FOLDER}/{name}", os.O_RDWR | os.O_CREAT, 0o666)


def record(file, kind, first, last, wait=False):
    """By the process."""
    if not wait and kind != fcntl.LOCK_UN:
        kind |= fcntl.LOCK_NB
    fcntl.lockf(file, kind, last - first + 1, first)


def by_open_file(file, kind, first, last):
    lock = struct.pack("hhqqi0q", kind, os.SEEK_SET, first, last - first + 1, 0)
    fcntl.fcntl(file, fcntl.F_OFD_SETLK, lock)


def fails(act):
    """Whether somebody else is in the way."""
    try:
        act()
    except BlockingIOError:
        return True
    return False


def hold():
    """Holds locks of each kind, and goes on using them: nobody may be in the way of that."""
    records, whole, own = (open_file(name) for name in ("record", "flock", "ofd"))
    record(records, fcntl.LOCK_EX, 0, 99)
    record(records, fcntl.LOCK_SH, 200, 299)
    fcntl.flock(whole, fcntl.LOCK_EX)
    by_open_file(own, fcntl.F_WRLCK, 0, 9)
    child = os.fork()
    if child == 0:
        record(records, fcntl.LOCK_EX, 300, 399)
        open(NAME + ".child", "w").close()
        number = wrong = 0
        while not told("release"):
            wrong += fails(lambda: record(records, fcntl.LOCK_UN, 390, 399))
            wrong += fails(lambda: record(records, fcntl.LOCK_EX, 390, 399))
            number += 1
            time.sleep(0.01)
        while os.path.exists(HELD):
            time.sleep(0.001)
        os._exit(wrong != 0)
    while not told("child"):
        time.sleep(0.01)
    open(HELD, "w").close()
    number = wrong = 0
    while not told("release"):
        wrong += fails(lambda: record(records, fcntl.LOCK_UN, 90, 99))
        wrong += fails(lambda: record(records, fcntl.LOCK_EX, 90, 99))
        wrong += fails(lambda: fcntl.flock(whole, fcntl.LOCK_SH | fcntl.LOCK_NB))
        wrong += fails(lambda: fcntl.flock(whole, fcntl.LOCK_EX | fcntl.LOCK_NB))
        wrong += fails(lambda: by_open_file(own, fcntl.F_UNLCK, 5, 9))
        wrong += fails(lambda: by_open_file(own, fcntl.F_WRLCK, 5, 9))
        say(f"{number} wrong {wrong}")
        number += 1
        time.sleep(0.01)
    os.unlink(HELD)
    # The child's lock ends with it, the others in each of the ways there are.
    say(f"child wrong {os.waitpid(child, 0)[1]}")
    record(records, fcntl.LOCK_UN, 0, 299)
    fcntl.flock(whole, fcntl.LOCK_UN)
    os.close(own)
    wait_until("stop")
    sys.exit(7)


def contend():
    """Tries to get each of these locks, and says if it does while somebody else must have it."""
    records, whole, own = (open_file(name) for name in ("record", "flock", "ofd"))

    def flock(kind):
        fcntl.flock(whole, kind | fcntl.LOCK_NB)

    tries = {
        "record": lambda kind: record(records, kind, 0, 99),
        "read": lambda kind: record(records, kind, 200, 299),
        "child": lambda kind: record(records, kind, 300, 389),
        "flock": flock,
        "ofd": lambda kind: by_open_file(
            own, fcntl.F_UNLCK if kind == fcntl.LOCK_UN else fcntl.F_WRLCK, 0, 4
        ),
    }
    got = set()
    number = 0
    while len(got) < len(tries) and not told("stop"):
        for name, lock in tries.items():
            if fails(lambda lock=lock: lock(fcntl.LOCK_EX)):
                continue
            # The file is removed before the lock is given up.
            if os.path.exists(HELD):
                say("broken " + name)
            got.add(name)
            lock(fcntl.LOCK_UN)
        number += 1
        if number % 10 == 0:
            say(f"{number} tries")
        time.sleep(0.005)
    say("got " + " ".join(sorted(got)))


def wait():
    """Waits for a lock; `kind` of it is the last part of NAME."""
    for number in range(3):
        say(f"{number} waits, wrong 0")
    if NAME.endswith("flock"):
        fcntl.flock(open_file("flock"), fcntl.LOCK_EX)
    else:
        record(open_file("record"), fcntl.LOCK_EX, 10, 19, wait=True)
    say("broken" if os.path.exists(HELD) else "granted, wrong 0")
    wait_until("stop")


def bank():
    """A transaction that is open for long."""
    db = sqlite3.connect(FOLDER + "/bank.db", isolation_level=None)
    db.execute("create table if not exists t(i int)")
    db.execute("begin exclusive")
    db.execute("insert into t values(1)")
    wait_until("commit")
    db.execute("insert into t values(2)")
    db.execute("commit")
    say("committed, wrong 0")
    wait_until("stop")


def late():
    """Locks a file when it is told to."""
    wait_until("lock")
    file = open_file("late")
    fcntl.flock(file, fcntl.LOCK_EX)
    say("locked, wrong 0")
    wait_until("stop")


{"hold": hold, "contend": contend, "wait": wait, "bank": bank, "late": late}[ROLE]()
