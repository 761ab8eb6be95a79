"""Touches pages of a container from a program: touch.py LIBGOB SOCKET CONTAINER read|write PAGE...

Prints the byte found on each page; `write` then adds one to it."""
import ctypes
import os
import sys

library, socket, name, how, *pages = sys.argv[1:]
gob = ctypes.CDLL(library)
gob.gob_last_error.restype = ctypes.c_char_p


def check(result):
    if result < 0:
        sys.exit(f"{-result} {os.strerror(-result)}: {gob.gob_last_error().decode()}")


READ, WRITE = 1, 2
access = READ | WRITE if how == "write" else READ
connection, container, address = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
check(gob.gob_connect(socket.encode(), ctypes.byref(connection)))
check(gob.gob_open(connection, name.encode(), access, ctypes.byref(container)))
check(gob.gob_map(container, ctypes.c_uint64(0), ctypes.c_size_t(0), access, ctypes.byref(address)))
for page in pages:
    byte = ctypes.c_ubyte.from_address(address.value + int(page) * 4096)
    print(byte.value, end=" ")
    if how == "write":
        byte.value = (byte.value + 1) % 256
print()
check(gob.gob_disconnect(connection))
