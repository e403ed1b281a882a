"""DHCP of a thousand machines on one card, for clients on asyncio: frames of each machine's own MAC, broadcast.

One socket hears the answers, through a filter that the kernel applies, so that it is handed nothing of the downloads
that go on beside; another one sends.
"""

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address

import dhcp.sniff
from bench.dhcp_machines import Doing, Machine, Reply, in_frame, read_reply

_SO_RCVBUFFORCE = 33
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@qq")
_DRAIN = 64

BIOS = bytes.fromhex("5d020000 5e03010201 390205c0 370c0103060c0f2b3c4243618081") + (
    b"\x3c\x20PXEClient:Arch:00000:UNDI:002001"
)
LINUX = b"\x3c\x0eLinux ipconfig" + bytes.fromhex("370901030c0f111a28292a 390205c0")
"""What an initramfs says of itself (klibc's ipconfig)."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What a machine was given."""

    address: IPv4Address
    file: str
    """What it is to boot."""
    repeated: int
    """Messages that it had to send again."""


def boot_file(payload: bytes) -> str:
    """Return the `file` field of a reply; option 67 (RFC 2132 section 9.5) where that is empty.

    >>> boot_file(bytes(108) + b"grub/core.0" + bytes(200))
    'grub/core.0'
    """
    named = payload[108:236].split(b"\0")[0]
    at = 240
    while not named and at + 1 < len(payload) and payload[at] != 255:
        if payload[at] == 67:
            named = payload[at + 2 : at + 2 + payload[at + 1]]
        at += 1 if payload[at] == 0 else 2 + payload[at + 1]
    return named.decode("latin-1")


def payload_of(packet: bytes) -> bytes:
    """Return what a UDP datagram in an IPv4 packet holds; the filter has seen to it that it is one."""
    return packet[(packet[0] & 15) * 4 + 8 :]


def stamp_s(control: list[tuple[int, int, bytes]]) -> float:
    """Return when the kernel received a packet, in seconds since 1970; now, if it does not say."""
    for level, kind, value in control:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack_from(value)
            return float(seconds + nanoseconds / 1e9)
    return time.time()


class Wire:
    """The card. `Wire.lease` is one machine's whole DHCP; whoever wants single answers gives `heard`."""

    def __init__(self, interface: str, heard: Callable[[Reply, bytes, float], None] | None = None) -> None:
        """Open the sockets. `heard` is given each reply, its payload and when it came, in seconds since 1970."""
        self._loop = asyncio.get_running_loop()
        self._heard = heard or self._to_machine
        self._waiting: dict[bytes, tuple[Machine, asyncio.Future[str]]] = {}
        self._in = dhcp.sniff.open_socket(interface, promiscuous=True)
        self._in.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)
        self._in.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._out.bind((interface, 0))
        self._loop.add_reader(self._in, self._readable)

    def close(self) -> None:
        """Close the sockets."""
        self._loop.remove_reader(self._in)
        self._in.close()
        self._out.close()

    def send(self, mac: bytes, payload: bytes) -> float:
        """Broadcast a message of the machine `mac`; return when, in seconds since 1970. Raises `OSError`."""
        frame = in_frame(mac, payload)
        at_s = time.time()
        self._out.send(frame)
        return at_s

    async def lease(self, mac: bytes, xid: int, says: bytes, broadcast: bool) -> Lease:
        """Return what the machine `mac` is given: DHCPDISCOVER to DHCPACK, repeated as firmware does."""
        machine = Machine(mac, xid, broadcast, 0.0, says=says)
        bound: asyncio.Future[str] = self._loop.create_future()
        self._waiting[mac] = (machine, bound)
        try:
            while not bound.done():
                self._out.send(in_frame(mac, machine.expire(self._loop.time())))
                while not bound.done() and (left_s := machine.deadline - self._loop.time()) > 0:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(asyncio.shield(bound), left_s)
            return Lease(machine.address, bound.result(), machine.repeated)
        finally:
            del self._waiting[mac]

    def receive_all(self) -> None:
        """Take all that has arrived."""
        while self._readable():
            pass

    def _readable(self) -> bool:
        """Take some of what has arrived; tell whether there may be more."""
        for _ in range(_DRAIN):
            try:
                packet, control, _, _ = self._in.recvmsg(2048, 128)
            except BlockingIOError:
                return False
            payload = payload_of(packet)
            reply = read_reply(payload)
            if reply is not None:
                self._heard(reply, payload, stamp_s(control))
        return True

    def _to_machine(self, reply: Reply, payload: bytes, _at_s: float) -> None:
        machine, bound = self._waiting.get(reply.chaddr, (None, None))
        if machine is None or bound is None or bound.done():
            return
        said = machine.receive(reply, self._loop.time())
        if said is not None:
            self._out.send(in_frame(machine.mac, said))
        if machine.doing is Doing.BOUND:
            bound.set_result(boot_file(payload))
