"""What the Linux kernel offers UDP and Python's socket module has no name for.

Numbers are from <linux/in.h> and <linux/udp.h>; they are the same on every architecture.
"""

import errno
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

IP_PKTINFO = 8
IP_MTU_DISCOVER = 10
IP_PMTUDISC_DONT = 0
IP_MTU = 14
UDP_SEGMENT = 103

_PKTINFO = struct.Struct("=i4s4s")  # ipi_ifindex, ipi_spec_dst, ipi_addr
_MAX_GSO_BYTES = 65507
_MAX_GSO_SEGMENTS = 64
_CANNOT_SEGMENT = frozenset({errno.EIO, errno.ENOPROTOOPT, errno.EOPNOTSUPP})
_NOT_THESE = frozenset({errno.EINVAL, errno.EMSGSIZE})  # the path to this peer is narrower than the blocks
_BUFFER = 1024 * 1024  # bytes; the kernel grants what it may
_DATAGRAM = 2048  # bytes; far above any request, ACK or ERROR

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Received:
    """A datagram, who sent it, and the address of ours that it was sent to (None: a broadcast)."""

    data: bytes
    peer: Address
    local: str | None


@dataclass(frozen=True, slots=True)
class Port:
    """Where the datagrams of a transfer leave from: a socket of its own, or the listener that all of them share."""

    sock: socket.socket
    control: Sequence[tuple[int, int, bytes]] = ()
    """Goes with each datagram: from which of our addresses it is sent, when the socket is bound to none."""
    shared: bool = False

    def send(self, data: bytes, peer: Address) -> None:
        """Send one datagram. Raises `OSError`."""
        if self.control:
            self.sock.sendmsg((data,), self.control, 0, peer)
        else:  # half as long a way through the interpreter
            self.sock.sendto(data, peer)

    def close(self) -> None:
        """Close the socket, unless others use it too."""
        if not self.shared:
            self.sock.close()


def go_near(sock: socket.socket) -> None:
    """Go on, in this thread, on the processor on which the last datagram to `sock`, which is connected, came in.

    Whoever is woken from another processor waits for that one's call. It is no place to stay: the kernel moves the
    thread on as soon as there is an idle processor. Where it may not be asked for this, nothing happens.
    """
    with suppress(OSError):
        here = sock.getsockopt(socket.SOL_SOCKET, socket.SO_INCOMING_CPU)
        anywhere = os.sched_getaffinity(0)
        if here in anywhere:
            os.sched_setaffinity(0, {here})
            os.sched_setaffinity(0, anywhere)


def shared_port(listener: socket.socket, local: str) -> Port:
    """Return the port of `listener` for a client that asked our address `local` (single-port mode)."""
    source = _PKTINFO.pack(0, socket.inet_aton(local), bytes(4))
    return Port(listener, ((socket.IPPROTO_IP, IP_PKTINFO, source),), shared=True)


def open_socket(address: str = "0.0.0.0", interface: str | None = None, port: int = 69) -> socket.socket:
    """Return a non-blocking UDP socket on `port` that learns which of our addresses was asked (IP_PKTINFO).

    Raises `OSError` whose text names the port: taken, not permitted, no such address or interface.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if interface is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        prepare(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)  # a rack that is switched on at once
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)  # its transfers, where they share this port
        sock.bind((address, port))
    except OSError as error:
        sock.close()
        where = f"TFTP cannot listen on UDP port {port} of {address}" + (f" at {interface}" if interface else "")
        match error.errno:
            case errno.EADDRINUSE:
                why = "another program has it"
            case errno.EACCES | errno.EPERM:
                why = "not permitted; ports below 1024 need root or CAP_NET_BIND_SERVICE"
            case _:
                why = os.strerror(error.errno or 0)
        raise OSError(error.errno, f"{where}: {why}") from None
    return sock


def prepare(sock: socket.socket) -> None:
    """Make `sock` non-blocking, have it tell the address that each datagram was sent to, and send with DF clear.

    DF confuses PXE ROMs, and a path that is narrower than our own link then fragments instead of swallowing.
    """
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)


def receive(sock: socket.socket) -> Received | None:
    """Return the next datagram of a socket from `open_socket`, or None if it is longer than any that we expect.

    Raises `BlockingIOError` when there is none, and other `OSError`.
    """
    data, control, flags, peer = sock.recvmsg(_DATAGRAM, socket.CMSG_SPACE(_PKTINFO.size))
    if flags & socket.MSG_TRUNC:
        return None
    local = None
    for level, kind, value in control:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO and len(value) >= _PKTINFO.size:
            _, ours, destination = _PKTINFO.unpack_from(value)
            if ours == destination:
                local = socket.inet_ntoa(ours)
    return Received(data, peer, local)


def transfer_socket(local: str, listener: socket.socket) -> socket.socket:
    """Return a socket on a new port of `local`, at the same interface as `listener`; it sends as `prepare` has it.

    Raises `OSError`.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        _same_interface(sock, listener)
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
        sock.bind((local, 0))
    except OSError:
        sock.close()
        raise
    return sock


def keep_to(sock: socket.socket, peer: Address) -> socket.socket:
    """Have the socket of a transfer get the datagrams of `peer` alone; return one that gets all others at its port.

    What was in its queue before stays there. The kernel then looks for the way to `peer` once and not for each
    datagram, and strangers can still be told that they are strangers. Raises `OSError`.
    """
    others = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        _same_interface(others, sock)
        others.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
        sock.connect(peer)  # from here on the kernel finds it before one that has no peer
        for both in (sock, others):
            both.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        others.bind(sock.getsockname())
        for both in (sock, others):  # nobody else is to have this port
            both.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except OSError:
        others.close()
        raise
    return others


def path_mtu(peer: Address, local: str, listener: socket.socket) -> int:
    """Return how many bytes an IP packet from our address `local` to `peer` may have. Sends nothing.

    It is what the kernel knows: the link's, less if the route says so, or if a router on the way has said so lately.

    Raises `OSError` if there is no route.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        _same_interface(probe, listener)
        probe.bind((local, 0))  # a route may depend on it
        probe.connect(peer)
        return probe.getsockopt(socket.IPPROTO_IP, IP_MTU)


def _same_interface(sock: socket.socket, listener: socket.socket) -> None:
    interface = listener.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)  # IFNAMSIZ
    if interface:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface)


class Sender:
    """Sends runs of datagrams: a whole window with one system call where the kernel can segment it (GSO).

    A datagram costs 0.6 to 0.9 µs of CPU that way and 4 to 8 µs through `sendto`. Shared by all transfers, so that
    a network card that cannot do it is asked once.
    """

    def __init__(self, *, segmentation: bool = True) -> None:
        self.segmentation = segmentation

    def send(self, port: Port, peer: Address, datagrams: Sequence[bytes]) -> int:
        """Send `datagrams`, all of the same length but for a shorter last one.

        Returns how many left. The rest had no room in the socket's buffer or met another error of the network:
        they count as lost on the way, and the transfer's timer sends them again.
        """
        sent = 0
        size = len(datagrams[0])
        at_once = min(_MAX_GSO_SEGMENTS, _MAX_GSO_BYTES // size)
        try:
            while sent < len(datagrams):
                run = datagrams[sent : sent + at_once]
                if len(run) > 1 and self.segmentation and self._send_segmented(port, peer, run, size):
                    sent += len(run)
                    continue
                for datagram in run:
                    port.send(datagram, peer)
                    sent += 1
        except OSError:
            pass
        return sent

    def _send_segmented(self, port: Port, peer: Address, run: Sequence[bytes], size: int) -> bool:
        """Send `run` as one message. Returns False if it must go one by one: what is longer than the path allows is
        never segmented, and whoever cannot segment at all is not asked again.
        """
        segments = (socket.SOL_UDP, UDP_SEGMENT, struct.pack("=H", size))
        try:
            port.sock.sendmsg(run, [*port.control, segments], 0, peer)
        except OSError as error:
            if error.errno in _CANNOT_SEGMENT:
                self.segmentation = False
            elif error.errno not in _NOT_THESE:
                raise
            return False
        return True


class Windows:
    """Sends windows of DATA, of `size` bytes but for the last one, from a socket that is connected to their client.

    It is `Sender` for who waits for each ACK: from when that comes, nothing is made, and no route looked for, until
    the window leaves. How the socket is to segment is told to the socket itself, which others have too: see `close`.
    """

    def __init__(self, sock: socket.socket, size: int) -> None:
        self._sock = sock
        self._descriptor = sock.fileno()
        self._size = size
        self._most = min(_MAX_GSO_SEGMENTS, _MAX_GSO_BYTES // size) * size
        self._segmented = False
        with suppress(OSError):  # otherwise this kernel cannot
            sock.setsockopt(socket.SOL_UDP, UDP_SEGMENT, size)
            self._segmented = True

    def send(self, window: bytes | memoryview) -> None:
        """Send datagrams that stand one after the other. Raises `OSError`; then the rest of them is lost."""
        for at in range(0, len(window), self._most):
            self._send(window[at : at + self._most])

    def close(self) -> None:
        """Leave the socket as it was."""
        if self._segmented:
            self._segmented = False
            self._sock.setsockopt(socket.SOL_UDP, UDP_SEGMENT, 0)

    def _send(self, some: bytes | memoryview) -> None:
        """Send them as one message; one by one, as all others from then on, if the path or the kernel forbids that."""
        if self._segmented:
            try:
                os.write(self._descriptor, some)
            except OSError as error:
                if error.errno not in _CANNOT_SEGMENT | _NOT_THESE:
                    raise
                self.close()
            else:
                return
        for at in range(0, len(some), self._size):
            os.write(self._descriptor, some[at : at + self._size])
