"""Many DHCP clients on one wire, each of which asks everybody, and their own list of what they were told.

    python -m tests.support.broadcasting_clients INTERFACE

Reads commands, a JSON list on a line, and answers each with a line of JSON when all that it names are done, or
its time is over:

    ["ask", FIRST, COUNT, WITHIN_S]      clients FIRST.. ask for an address: DISCOVER, the first OFFER, REQUEST
    ["rebind", FIRST, COUNT, WITHIN_S]   clients FIRST.. ask everybody whether they may keep the one they have

→ {"told": [[NUMBER, ADDRESS, EXPIRES, SENT, TOOK_S], ...], "naks": N}: of those that were told; SENT messages were
needed. A client repeats itself after 4 s, and begins anew after two REQUESTs without an answer, as most do.
"""

import json
import select
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from ipaddress import IPv4Address

REPEAT_S = 4.0
_HEAD = struct.Struct("!BBBBIHH4s4s4s4s16s64x128x4s")
_COOKIE = bytes.fromhex("63825363")
_DISCOVER, _OFFER, _REQUEST, _ACK, _NAK = 1, 2, 3, 5, 6
_BROADCAST = 0x8000
_NOTHING = bytes(4)


@dataclass(slots=True)
class Client:
    """One machine."""

    number: int
    address: bytes = b""
    """What it was told is its own."""
    expires: float = 0.0
    offer: bytes = b""
    server: bytes = b""
    began: float = 0.0
    sent_at: float = 0.0
    sent: int = 0
    unanswered: int = 0
    rebinds: bool = False
    done: bool = True

    @property
    def mac(self) -> bytes:
        """Its hardware address."""
        return b"\x02\x20" + self.number.to_bytes(4, "big")


@dataclass
class Clients:
    """All of them, on one interface."""

    interface: str
    naks: int = 0
    all: dict[int, Client] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.interface.encode())
        self._sock.bind(("", 68))
        self._sock.setblocking(False)

    def run(self, rebinds: bool, first: int, count: int, within_s: float) -> dict[str, object]:
        """Let clients ask, until all are answered or `within_s` is over."""
        began, self.naks = time.monotonic(), 0
        asking = [self.all.setdefault(number, Client(number)) for number in range(first, first + count)]
        for client in asking:
            client.began = time.monotonic()
            client.sent = client.unanswered = 0
            client.rebinds, client.done, client.offer = rebinds, False, b""
            self._send(client)
            self._take(0)
        while not all(client.done for client in asking) and time.monotonic() < began + within_s:
            self._take(0.02)
            now = time.monotonic()
            for client in asking:
                if not client.done and client.sent_at + REPEAT_S < now:
                    client.unanswered += 1
                    if client.offer and client.unanswered >= 2:
                        client.offer, client.unanswered = b"", 0
                    self._send(client)
        told = [client for client in asking if client.done]
        for client in asking:
            client.done = True
        rows = [
            [each.number, str(IPv4Address(each.address)), each.expires, each.sent, round(each.sent_at, 3)]
            for each in told
        ]
        return {"told": rows, "naks": self.naks}

    def _send(self, client: Client) -> None:
        ciaddr, kind, options = _NOTHING, _DISCOVER, b""
        if client.rebinds:
            ciaddr, kind = client.address, _REQUEST
        elif client.offer:
            kind = _REQUEST
            options = b"\x32\x04" + client.offer + b"\x36\x04" + client.server
        client.sent += 1
        client.sent_at = time.monotonic()
        head = _HEAD.pack(
            *(1, 1, 6, 0, client.number, 0, _BROADCAST, ciaddr, _NOTHING, _NOTHING, _NOTHING, client.mac, _COOKIE)
        )
        packet = head + bytes((53, 1, kind)) + options + b"\xff"
        self._sock.sendto(packet.ljust(300, b"\0"), ("255.255.255.255", 67))

    def _take(self, timeout_s: float) -> None:
        if not select.select([self._sock], [], [], timeout_s)[0]:
            return
        while True:
            try:
                packet = self._sock.recv(4096)
            except BlockingIOError:
                return
            self._receive(packet)

    def _receive(self, packet: bytes) -> None:
        client = self.all.get(int.from_bytes(packet[4:8], "big"))
        if client is None or client.done or packet[:1] != b"\2":
            return
        options = _options(packet[240:])
        kind, server = options.get(53, b"\0")[0], options.get(54, b"")
        if kind == _OFFER and not client.offer and not client.rebinds:
            client.offer, client.server, client.unanswered = packet[16:20], server, 0
            self._send(client)
        elif kind == _ACK and (client.rebinds or (client.offer and server == client.server)):
            client.address = packet[16:20]
            client.expires = time.time() + int.from_bytes(options[51], "big")
            client.done = True
            client.sent_at = time.monotonic() - client.began
        elif kind == _NAK and (client.rebinds or (client.offer and server == client.server)):
            self.naks += 1
            client.rebinds, client.offer, client.unanswered = False, b"", 0
            self._send(client)


def _options(data: bytes) -> dict[int, bytes]:
    found, i = {}, 0
    while i < len(data) and data[i] != 255:
        if data[i]:
            found[data[i]] = data[i + 2 : i + 2 + data[i + 1]]
            i += data[i + 1] + 1
        i += 1
    return found


def main() -> None:
    """Obey commands until standard input ends."""
    clients = Clients(sys.argv[1])
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        what, first, count, within_s = json.loads(line)
        print(json.dumps(clients.run(what == "rebind", first, count, within_s)), flush=True)


if __name__ == "__main__":
    main()
