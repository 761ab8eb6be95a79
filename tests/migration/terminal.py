#!/usr/bin/env python3
"""A terminal, and a stand-in for a shell in it, for terminal_test.sh.

terminal.py NAME ROWS COLUMNS fg|bg PROGRAM...: runs PROGRAM in a terminal of that size, as a job of the
session's first process, in the foreground or not. Writes to files:
  NAME.out     all that is written to the terminal, byte for byte
  NAME.pid     the job's number
  NAME.events  what its parent hears of it: stopped, continued, ended STATUS
Takes orders, one a line, from the FIFO NAME.do:
  keys TEXT    types it; escapes as in Python's strings
  size R C     changes the window
  run COMMAND  the shell runs this in the foreground; "ran STATUS", or "stopped", is an event, then
  look         writes an event: the foreground's group and the settings, "terminal GROUP HEX"
  tostop       who writes to the terminal in the background is stopped from now on; "tostop" is an event
  hang up      the terminal is gone
"""
import fcntl
import os
import select
import signal
import struct
import sys
import termios


def shell(orders, name, how, program):
    """The session's first process: never returns."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    events = open(name + ".events", "w", buffering=1)

    def start(words, foreground):
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            if foreground:
                os.tcsetpgrp(0, os.getpid())
            signal.signal(signal.SIGTTOU, signal.SIG_DFL)
            os.closerange(3, 1000)
            os.execvp(words[0], words)
        return child

    def await_end(child, word, foreground):
        while True:
            _, status = os.waitpid(child, os.WUNTRACED | os.WCONTINUED)
            if os.WIFCONTINUED(status):
                events.write("continued\n")
                continue
            if foreground:
                os.tcsetpgrp(0, os.getpgrp())
            if not os.WIFSTOPPED(status):
                events.write(f"{word} {os.waitstatus_to_exitcode(status)}\n")
                return
            events.write("stopped\n")
            if word == "ran":
                return

    job = start(program, how == "fg")
    with open(name + ".pid", "w") as file:
        file.write(f"{job}\n")
    if how == "fg":
        await_end(job, "ended", True)
    for line in orders:
        if line.startswith("look"):
            settings = b"".join(x if isinstance(x, bytes) else bytes([x]) for x in termios.tcgetattr(0)[6])
            flags = struct.pack("4I", *termios.tcgetattr(0)[:4])
            events.write(f"terminal {os.tcgetpgrp(0)} {(flags + settings).hex()}\n")
        elif line.startswith("tostop"):
            settings = termios.tcgetattr(0)
            settings[3] |= termios.TOSTOP
            termios.tcsetattr(0, termios.TCSANOW, settings)
            events.write("tostop\n")
        else:
            await_end(start(["sh", "-c", "exec " + line.strip()], True), "ran", True)
    signal.pause()


def main():
    name, rows, columns, how, *program = sys.argv[1:]
    master, slave = os.openpty()
    resize = lambda *size: fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("4H", *size, 0, 0))
    resize(int(rows), int(columns))
    os.mkfifo(name + ".do")
    get, put = os.pipe()
    child = os.fork()
    if child == 0:
        for each in range(3):
            os.dup2(slave, each)
        for each in (master, slave, put):
            os.close(each)
        shell(os.fdopen(get), name, how, program)
    os.close(slave)
    os.close(get)
    orders = os.open(name + ".do", os.O_RDWR)
    text = b""
    out = open(name + ".out", "wb", buffering=0)
    while True:
        ready, _, _ = select.select([master, orders], [], [])
        if master in ready:
            try:
                out.write(os.read(master, 65536))
            except OSError:  # the shell has ended, and everybody else
                return
        if orders in ready:
            text += os.read(orders, 4096)
        while b"\n" in text:
            line, text = text.split(b"\n", 1)
            word, _, rest = line.decode().partition(" ")
            if word == "keys":
                os.write(master, rest.encode().decode("unicode_escape").encode("latin-1"))
            elif word == "size":
                resize(*map(int, rest.split()))
            elif word == "hang":
                return
            else:
                os.write(put, ((rest if word == "run" else word) + "\n").encode())


main()
