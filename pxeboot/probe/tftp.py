"""Fetches a file by TFTP as a client would. tftpy is the client: a judge that is not us.

It knows the options blksize and tsize. It stands on a socket that a `Witness` looks at.
"""

import errno
import hashlib
import logging
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from tftpy.TftpContexts import TftpContextClientDownload
from tftpy.TftpShared import TftpException, TftpTimeout

from pxeboot.probe.transfer import Address, Attempt, Verdict, Witness, judge
from tftp.kernel import IP_MTU

TRIES = 5
"""How often the same is said before a client gives up: no fewer than EDK2."""
SMALLER = (1368, 1024, 512)
"""Blocks that are tried in turn when larger ones do not arrive: for an MTU of 1400, for most tunnels, for any."""
SMALLER_TRIES = 2
_IP_RECVERR = 11  # <linux/in.h>: tell of "port unreachable" and the like


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a probe."""

    attempts: tuple[Attempt, ...]
    verdict: Verdict
    sha256: str
    """Of what arrived in the last attempt."""


def probe(
    server: Address,
    file: str,
    options: Mapping[str, int],
    timeout_s: float,
    *,
    interface: str | None = None,
    output: BinaryIO | None = None,
    source: str | None = None,
) -> Result:
    """Fetch `file` from `server`, an IPv4 address and a port, with `options` (blksize and tsize).

    After `timeout_s` seconds of silence the last packet is sent again, a few times. If blocks are granted and do not
    arrive, smaller ones are tried. What arrives is written to `output`. With `source`, it is asked from that address
    of ours. Raises `OSError` if we cannot ask at all, or `output` cannot be written.
    """
    logging.getLogger("tftpy").setLevel(logging.CRITICAL + 1)  # it tells standard error what the witness tells us
    with _socket(interface, source) as sock:
        sock.connect(server)
        mtu = sock.getsockopt(socket.IPPROTO_IP, IP_MTU)
    sink = _Sink(output)
    attempts = [_attempt(server, file, options, timeout_s, TRIES, interface, source, sink)]
    for size in SMALLER:
        if attempts[-1].too_large and size < attempts[-1].blksize:
            sink.begin()
            smaller = {**options, "blksize": size}
            attempts.append(_attempt(server, file, smaller, timeout_s, SMALLER_TRIES, interface, source, sink))
    return Result(tuple(attempts), judge(attempts, mtu), sink.sha256)


class _Sink:
    """What tftpy writes to."""

    def __init__(self, output: BinaryIO | None) -> None:
        self._output = output
        self.begin()

    def begin(self) -> None:
        """Forget what came."""
        self._digest = hashlib.sha256()
        self.error: OSError | None = None
        if self._output is not None and self._output.seekable():
            self._output.seek(0)
            self._output.truncate()

    def write(self, data: bytes) -> None:
        """Take what came."""
        self._digest.update(data)
        if self._output is not None:
            try:
                self._output.write(data)
            except OSError as error:
                self.error = error
                raise

    @property
    def sha256(self) -> str:
        """The digest of it all, in hex."""
        return self._digest.hexdigest()


class _Wire:
    """The socket that tftpy is given."""

    def __init__(self, sock: socket.socket, witness: Witness, timeout_s: float) -> None:
        self._sock = sock
        self._witness = witness
        self._timeout_s = timeout_s

    def sendto(self, data: bytes, address: Address) -> None:
        """Send a datagram."""
        self._witness.sent(data, time.monotonic())
        self._sock.sendto(data, address)

    def recvfrom(self, size: int) -> tuple[bytes, Address]:
        """Return the next datagram that is for the client. Raises `TimeoutError`."""
        until = time.monotonic() + self._timeout_s
        while (left := until - time.monotonic()) > 0:
            self._sock.settimeout(left)
            data, sender = self._sock.recvfrom(size)
            if self._witness.received(data, sender, time.monotonic()):
                return data, sender
        raise TimeoutError

    def close(self) -> None:
        """Close it."""
        self._sock.close()


def _attempt(
    server: Address,
    file: str,
    options: Mapping[str, int],
    timeout_s: float,
    tries: int,
    interface: str | None,
    source: str | None,
    sink: _Sink,
) -> Attempt:
    witness = Witness(server)
    complete, failure = False, ""
    context = TftpContextClientDownload(
        server[0], server[1], file.encode(), sink, dict(options), None, timeout_s, retries=tries
    )
    context.sock.close()
    context.sock = _Wire(_socket(interface, source), witness, timeout_s)
    try:
        with context:
            context.start()
        complete = True
    except TftpTimeout:
        pass
    except TftpException as error:
        failure = f"the client breaks off: {str(error)!r}"
    except OSError as error:
        if sink.error is not None:
            raise
        failure = _unreachable(server, error, begun=witness.answered)
    except Exception as error:  # whatever tftpy raises on bytes that it did not expect
        failure = f"the client cannot read what the server sends: {error!r}"
    return witness.attempt(time.monotonic(), complete=complete, failure=failure)


def _socket(interface: str | None, source: str | None) -> socket.socket:
    """Return a socket that hears of datagrams that could not be delivered. Raises `OSError`."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        if interface is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        if source is not None:
            sock.bind((source, 0))
    except BaseException:
        sock.close()
        raise
    return sock


def _unreachable(server: Address, error: OSError, *, begun: bool) -> str:
    host, port = server
    match error.errno:
        case errno.ECONNREFUSED if begun:
            return f"{host} closed the port of the transfer before it was over; see the server's log"
        case errno.ECONNREFUSED:
            return f"{host} says that nothing listens on its UDP port {port}: is the server running, on that address?"
        case errno.EHOSTUNREACH | errno.ENETUNREACH:
            return f"there is no way to {host}: it is switched off, or on another network and no router leads there"
        case errno.EPERM | errno.EACCES:
            return f"a packet filter of this machine lets nothing through to {host}"
        case _:
            return f"{host} cannot be asked: {error.strerror or error}"
