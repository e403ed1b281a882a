"""Listening sockets that systemd keeps for us over a restart: sd_listen_fds(3).

Named `http-eth1`, `https-eth1`, `nbd-eth1`: what is served on them, and on which interface. Clients that connect while
we are being replaced wait for us then, and are not refused. What has no such name we open ourselves.
"""

import logging
import os
import socket
from collections.abc import Mapping, MutableMapping

log = logging.getLogger("pxeboot")

FIRST_FD = 3
_IFNAMSIZ = 16


class Inherited:
    """The sockets that we were started with, by their names."""

    def __init__(self, sockets: Mapping[str, socket.socket] | None = None) -> None:
        """Keep `sockets` for as long as we live: an interface may go, and come back."""
        self._sockets = dict(sockets or {})

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str] = os.environ) -> "Inherited":
        """Take what is meant for this process. Children get neither the sockets nor word of them."""
        pid, count, names = (environ.pop(f"LISTEN_{what}", "") for what in ("PID", "FDS", "FDNAMES"))
        if pid != str(os.getpid()) or not count.isdigit():
            return cls()
        found = {}
        for fd, name in enumerate((names.split(":") + [""] * int(count))[: int(count)], FIRST_FD):
            os.set_inheritable(fd, False)
            try:
                sock = socket.socket(fileno=fd)
                listens = sock.family == socket.AF_INET and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            except OSError as error:
                log.warning("descriptor %s, %r, is no socket of ours: %s", fd, name, error.strerror)
                continue
            if not listens or name.partition("-")[0] not in ("http", "https", "nbd"):
                log.warning("the socket %r is not used: expected one that listens on TCP over IPv4, and is called "
                            "http-, https- or nbd- and the interface", name)  # fmt: skip
                sock.close()  # systemd keeps it
                continue
            found[name] = sock
        return cls(found)

    def take(self, server: str, interface: str) -> socket.socket | None:
        """Return the socket of `server` (http, https, nbd) on `interface`; None if we have none, or for another one.

        It may be closed: it is a second handle of what is kept.
        """
        kept = self._sockets.get(f"{server}-{interface}")
        if kept is None:
            return None
        try:
            device = kept.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, _IFNAMSIZ).rstrip(b"\0").decode()
        except OSError:
            return None  # the interface that it was for is gone; one of the same name is another one
        if device not in ("", interface):
            log.warning("the socket '%s-%s' is bound to %s, and not used", server, interface, device)
            return None
        sock = kept.dup()
        sock.setblocking(False)
        return sock
