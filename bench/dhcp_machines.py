"""A thousand machines that are switched on together, on one card: broadcast DHCP without a relay.

    python -m bench.dhcp_machines INTERFACE [--machines N] [--within SECONDS] [--patience SECONDS]

Each has its own MAC, asks as UEFI firmware does and repeats itself after 4, 8, 16 and 32 s. Every other machine sets
the broadcast flag; the others hear an answer only at their own MAC. They answer ARP for the addresses they have, as
any machine would. Prints one JSON object and needs CAP_NET_RAW.
"""

import argparse
import heapq
import json
import select
import socket
import struct
import sys
import time
from dataclasses import asdict, dataclass, field
from enum import Enum, auto
from ipaddress import IPv4Address

from dhcp.frame import udp_packet
from dhcp.options import MessageType

RETRIES_S = (4, 8, 16, 32)
"""How long firmware waits for an answer before it repeats itself (PXE 2.1 section 2.2)."""
EVERYBODY = b"\xff" * 6
NOBODY = IPv4Address("0.0.0.0")
LIMITED = IPv4Address("255.255.255.255")

_BOOTP = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")
_COOKIE = bytes((99, 130, 83, 99))
_ETH_P_ALL, _ETH_IP, _ETH_ARP = 3, b"\x08\x00", b"\x08\x06"
_PACKET_MR_PROMISC = 1
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP = 263, 1
_SO_RCVBUFFORCE = 33
FIRMWARE = bytes.fromhex("5d020007 5e03010310 390205c0 370c0103060c0f2b3c4243618081") + (
    b"\x3c\x20PXEClient:Arch:00007:UNDI:003016"
)
"""What an x64 UEFI machine says of itself: options 93, 94, 57, 55 and 60."""


class Doing(Enum):
    """What a machine is at (RFC 2131 figure 5)."""

    SELECTING = auto()
    REQUESTING = auto()
    BOUND = auto()


@dataclass(frozen=True, slots=True)
class Reply:
    """What a machine reads of a server's message."""

    xid: int
    yiaddr: IPv4Address
    chaddr: bytes
    kind: int
    server: bytes


def read_reply(payload: bytes) -> Reply | None:
    """Return the DHCP reply in a UDP payload, None if it is none."""
    if len(payload) < 244 or payload[0] != 2 or payload[236:240] != _COOKIE:
        return None
    options: dict[int, bytes] = {}
    at = 240
    while at < len(payload) and payload[at] != 255:
        if payload[at] == 0:
            at += 1
            continue
        if at + 1 >= len(payload):
            break
        length = payload[at + 1]
        options[payload[at]] = payload[at + 2 : at + 2 + length]
        at += 2 + length
    if not options.get(53):
        return None
    (xid,) = struct.unpack_from("!I", payload, 4)
    return Reply(xid, IPv4Address(payload[16:20]), payload[28:34], options[53][0], options.get(54, b""))


@dataclass(slots=True)
class Machine:
    """One machine. Pure: it is told the time, and returns the payload to broadcast."""

    mac: bytes
    xid: int
    broadcast: bool
    deadline: float
    """When it speaks next, unless it is answered: first, when it is switched on."""
    doing: Doing = Doing.SELECTING
    address: IPv4Address = NOBODY
    bound_at: float = 0.0
    repeated: int = 0
    refused: int = 0
    says: bytes = FIRMWARE
    """The options that it sends with every message."""
    _server: bytes = b""
    _tries: int = 0
    _began: float = field(default=-1.0)

    def expire(self, now: float) -> bytes:
        """Speak, because it is time to: the first time, or again. After the last try it begins anew."""
        if self._began < 0:
            self._began = now
        if self._tries:
            self.repeated += 1
        if self._tries >= len(RETRIES_S):
            self._tries, self.doing = 0, Doing.SELECTING
        self.deadline = now + RETRIES_S[self._tries]
        self._tries += 1
        return self._say(now)

    def receive(self, reply: Reply, now: float) -> bytes | None:
        """Act on an answer: take the first offer; be refused; have an address."""
        if reply.xid != self.xid or reply.chaddr != self.mac:
            return None
        match self.doing, reply.kind:
            case Doing.SELECTING, MessageType.DHCPOFFER:
                self.doing, self.address, self._server, self._tries = Doing.REQUESTING, reply.yiaddr, reply.server, 0
                return self.expire(now)
            case Doing.REQUESTING, MessageType.DHCPACK if reply.server == self._server:
                self.doing, self.address, self.bound_at = Doing.BOUND, reply.yiaddr, now
            case Doing.REQUESTING, MessageType.DHCPNAK if reply.server == self._server:
                self.refused += 1
                self.doing, self._tries = Doing.SELECTING, 0
                return self.expire(now)
        return None

    def _say(self, now: float) -> bytes:
        kind = MessageType.DHCPDISCOVER if self.doing is Doing.SELECTING else MessageType.DHCPREQUEST
        options = bytes((53, 1, kind)) + self.says + b"\x61\x11\x00" + bytes(10) + self.mac
        if self.doing is Doing.REQUESTING:
            options += b"\x32\x04" + self.address.packed + b"\x36\x04" + self._server
        secs, flags = min(0xFFFF, int(now - self._began)), 0x8000 if self.broadcast else 0
        none = bytes(4)
        head = _BOOTP.pack(1, 1, 6, 0, self.xid, secs, flags, none, none, none, none, self.mac, b"", b"", _COOKIE)
        return head + options + b"\xff"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went, with times in seconds since the first machine was switched on."""

    machines: int
    bound: int
    last_s: float
    """When the last machine had its lease; infinite if one has none."""
    slowest_s: float
    """The longest time from a machine's power-on to its lease, of those that have one."""
    repeated: int
    """Messages that machines had to send again."""
    refused: int
    offered_twice: int
    """Addresses that were offered to two machines."""
    given_twice: int
    """Addresses that two machines were told they have."""


class Room:
    """All machines, and what they were told."""

    def __init__(self, machines: int, within_s: float) -> None:
        """The machines are switched on evenly over `within_s`."""
        self.machines = {
            mac: Machine(mac, 0x5EED0000 + number, number % 2 == 0, within_s * number / machines)
            for number, mac in ((n, b"\x52\x54\x00" + n.to_bytes(3, "big")) for n in range(1, machines + 1))
        }
        self._powered = {mac: machine.deadline for mac, machine in self.machines.items()}
        self._due = [(machine.deadline, mac) for mac, machine in self.machines.items()]
        heapq.heapify(self._due)
        self._offered: dict[IPv4Address, set[bytes]] = {}
        self._given: dict[IPv4Address, set[bytes]] = {}

    @property
    def deadline(self) -> float | None:
        """When the next machine speaks by itself; None once all are bound."""
        while self._due and self._is_over(*self._due[0]):
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def expire(self, now: float) -> list[tuple[bytes, bytes]]:
        """Return what is to be broadcast now, as (MAC, payload)."""
        said = []
        while (deadline := self.deadline) is not None and deadline <= now:
            _, mac = heapq.heappop(self._due)
            said.append((mac, self._speak(self.machines[mac], now)))
        return said

    def receive(self, reply: Reply, now: float) -> list[tuple[bytes, bytes]]:
        """Return what is broadcast because of a reply."""
        machine = self.machines.get(reply.chaddr)
        if machine is None or reply.xid != machine.xid:
            return []
        if reply.kind in (MessageType.DHCPOFFER, MessageType.DHCPACK):
            told = self._offered if reply.kind == MessageType.DHCPOFFER else self._given
            told.setdefault(reply.yiaddr, set()).add(reply.chaddr)
        said = machine.receive(reply, now)
        if said is None:
            return []
        heapq.heappush(self._due, (machine.deadline, machine.mac))
        return [(machine.mac, said)]

    def holder(self, address: IPv4Address) -> bytes | None:
        """Return the MAC of the machine that has an address."""
        macs = self._given.get(address, set())
        return next((mac for mac in macs if self.machines[mac].address == address), None)

    def outcome(self) -> Outcome:
        """Return how it went so far."""
        bound = {mac: machine for mac, machine in self.machines.items() if machine.doing is Doing.BOUND}
        times = [machine.bound_at for machine in bound.values()]
        return Outcome(
            machines=len(self.machines),
            bound=len(bound),
            last_s=max(times, default=0.0) if len(bound) == len(self.machines) else float("inf"),
            slowest_s=max((machine.bound_at - self._powered[mac] for mac, machine in bound.items()), default=0.0),
            repeated=sum(machine.repeated for machine in self.machines.values()),
            refused=sum(machine.refused for machine in self.machines.values()),
            offered_twice=sum(len(macs) > 1 for macs in self._offered.values()),
            given_twice=sum(len(macs) > 1 for macs in self._given.values()),
        )

    def _speak(self, machine: Machine, now: float) -> bytes:
        said = machine.expire(now)
        heapq.heappush(self._due, (machine.deadline, machine.mac))
        return said

    def _is_over(self, due: float, mac: bytes) -> bool:
        machine = self.machines[mac]
        return machine.doing is Doing.BOUND or due != machine.deadline


def in_frame(mac: bytes, payload: bytes) -> bytes:
    """Return the Ethernet frame in which a machine without an address broadcasts."""
    return EVERYBODY + mac + _ETH_IP + udp_packet(NOBODY, 68, LIMITED, 67, payload, 0)


def out_of_frame(frame: bytes) -> bytes | None:
    """Return the payload of a frame to UDP port 68, None if it is another one."""
    if len(frame) < 42 or frame[12:14] != _ETH_IP or frame[23] != 17:
        return None
    header = (frame[14] & 15) * 4
    port, length = struct.unpack_from("!HH", frame, 14 + header + 2)
    return frame[14 + header + 8 : 14 + header + length] if port == 68 else None


def arp_answer(frame: bytes, room: Room) -> bytes | None:
    """Return the answer of the machine that has the address that an ARP request is about (RFC 826)."""
    if len(frame) < 42 or frame[12:22] != _ETH_ARP + bytes.fromhex("0001080006040001"):
        return None
    mac = room.holder(IPv4Address(frame[38:42]))
    if mac is None:
        return None
    asker, wanted = frame[22:32], frame[38:42]
    return frame[6:12] + mac + _ETH_ARP + bytes.fromhex("0001080006040002") + mac + wanted + asker


def play(interface: str, room: Room, patience_s: float) -> Outcome:
    """Let the machines of `room` boot on `interface` until all have an address, or for `patience_s`."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)
        sock.bind((interface, _ETH_P_ALL))
        promiscuous = struct.pack("iHH8s", socket.if_nametoindex(interface), _PACKET_MR_PROMISC, 0, b"")
        sock.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, promiscuous)
        sock.setblocking(False)
        began = time.monotonic()
        while (deadline := room.deadline) is not None and (now := time.monotonic() - began) < patience_s:
            ready, _, _ = select.select([sock], [], [], max(0.0, min(deadline, patience_s) - now))
            for mac, payload in room.expire(time.monotonic() - began):
                sock.send(in_frame(mac, payload))
            if ready:
                frame, (_, _, direction, _, _) = sock.recvfrom(2048)
                if direction == socket.PACKET_OUTGOING:
                    continue
                if (answer := arp_answer(frame, room)) is not None:
                    sock.send(answer)
                payload_in = out_of_frame(frame)
                reply = read_reply(payload_in) if payload_in is not None else None
                if reply is not None:
                    for mac, payload in room.receive(reply, time.monotonic() - began):
                        sock.send(in_frame(mac, payload))
    return room.outcome()


def main() -> int:
    """Switch them on, and print how it went."""
    parser = argparse.ArgumentParser(description="Machines that are switched on together.")
    parser.add_argument("interface")
    parser.add_argument("--machines", type=int, default=1000)
    parser.add_argument("--within", type=float, default=1.0)
    parser.add_argument("--patience", type=float, default=20.0)
    options = parser.parse_args()
    outcome = play(options.interface, Room(options.machines, options.within), options.patience)
    print(json.dumps(asdict(outcome)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
