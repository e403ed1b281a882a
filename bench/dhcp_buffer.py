"""Gives another process's UDP socket room for what comes while that process does not run.

perfdhcp takes the buffer that Linux gives by default, for some 250 answers. On two processors, which it shares with a
server that answers 20,000 exchanges a second, it is kept from running for longer than these last, and what its own
socket loses would be counted as lost by the server.
"""

import ctypes
import errno
import os
import socket
import time
from contextlib import suppress

ROOM = 1 << 22
_PIDFD_GETFD = 438
"""System call pidfd_getfd(2), on every architecture; Python has no name for it."""
_SO_RCVBUFFORCE = 33


def give_room(pid: int, patience_s: float = 2.0) -> bool:
    """Have the first UDP socket of a process, once it has one, hold `ROOM` bytes; return whether it got one in time.

    Needs the right to trace the process (ptrace(2)), and CAP_NET_ADMIN.
    """
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError, ProcessLookupError):
            for name in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:") and _enlarge(pid, int(name)):
                    return True
        time.sleep(0.001)
    return False


def _enlarge(pid: int, fd: int) -> bool:
    """Do it if this is a UDP socket."""
    pidfd = os.pidfd_open(pid)
    try:
        copy = ctypes.CDLL(None, use_errno=True).syscall(_PIDFD_GETFD, pidfd, fd, 0)
    finally:
        os.close(pidfd)
    if copy < 0 and ctypes.get_errno() == errno.EBADF:
        return False  # it is closed again
    if copy < 0:
        raise OSError(ctypes.get_errno(), f"pidfd_getfd: {os.strerror(ctypes.get_errno())}")
    try:
        sock = socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        return False  # it is another file by now
    with sock:
        if sock.family is not socket.AF_INET or sock.type is not socket.SOCK_DGRAM:
            return False
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, ROOM)
    return True
