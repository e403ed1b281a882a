"""Many DHCP clients behind one relay, and their own list of what they were given.

    python -m tests.support.dhcp_load SERVER OUR_ADDRESS LIST [--clients N] [--window N] [--seconds S] [--first N]
        [--rate R] [--repeat S]

Each client asks for an address (DISCOVER, REQUEST), repeats itself like a real one but sooner, and once it has its ACK
a line goes to LIST: `MAC ADDRESS EXPIRES SECONDS-IT-TOOK`. A REQUEST (and its ACK) is repeated by every fourth client,
as if the first ACK had been lost. One that took less than `--repeat` seconds has lost nothing. Ends when all have an
address, or after `--seconds`; prints how many have.
"""

import argparse
import select
import socket
import struct
import time
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

_HEAD = struct.Struct("!BBBBIHH4s4s4s4s16s64x128x4s")
_COOKIE = bytes.fromhex("63825363")
_REPEAT_S = 0.25
_DISCOVER, _OFFER, _REQUEST, _ACK, _NAK = 1, 2, 3, 5, 6


@dataclass(slots=True)
class Client:
    """One that wants an address."""

    number: int
    began: float
    sent: float = 0.0
    offer: bytes = b""
    server: bytes = b""
    acks: int = 0

    @property
    def mac(self) -> bytes:
        """Its hardware address."""
        return b"\x02\x10" + self.number.to_bytes(4, "big")


class Load:
    """The clients that are under way."""

    def __init__(self, server: str, relay: str, book: Path, repeat_s: float) -> None:
        """Begin none yet. `relay` is an address of ours, `book` where the list goes."""
        self.done = 0
        self.waiting: dict[int, Client] = {}
        self._repeat_s = repeat_s
        self._server = (server, 67)
        self._relay = IPv4Address(relay).packed
        self._book = book.open("ab", buffering=0)
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._sock.bind((relay, 67))
        self._sock.setblocking(False)

    def begin(self, number: int) -> None:
        """Let one more client ask."""
        client = self.waiting[number] = Client(number, time.monotonic())
        self._send(client)

    def turn(self, timeout_s: float) -> None:
        """Take what has arrived, and repeat what was not answered."""
        if select.select([self._sock], [], [], timeout_s)[0]:
            for _ in range(64):
                try:
                    self._receive(self._sock.recv(4096))
                except BlockingIOError:
                    break
        now = time.monotonic()
        for client in self.waiting.values():
            if client.sent < now - self._repeat_s:
                self._send(client)

    def _send(self, client: Client) -> None:
        kind = _REQUEST if client.offer else _DISCOVER
        options = bytes((53, 1, kind, 61, 7, 1)) + client.mac
        if client.offer:
            options += b"\x32\x04" + client.offer + b"\x36\x04" + client.server
        head = _HEAD.pack(
            1, 1, 6, 1, client.number, 0, 0, bytes(4), bytes(4), bytes(4), self._relay, client.mac, _COOKIE
        )
        client.sent = time.monotonic()
        self._sock.sendto(head + options + b"\xff", self._server)

    def _receive(self, data: bytes) -> None:
        if len(data) < _HEAD.size:
            return
        _, _, _, _, xid, _, _, _, yiaddr, _, _, _, _ = _HEAD.unpack_from(data)
        client = self.waiting.get(xid)
        options = _options(data[_HEAD.size :])
        kind = options.get(53, b"\0")[0]
        if client is None:
            return
        if kind == _OFFER and not client.offer:
            client.offer, client.server = yiaddr, options[54]
            self._send(client)
        elif kind == _NAK:
            client.offer = b""
        elif kind == _ACK:
            self._acknowledged(client, IPv4Address(yiaddr), int.from_bytes(options[51], "big"))

    def _acknowledged(self, client: Client, address: IPv4Address, lease_s: int) -> None:
        took = time.monotonic() - client.began
        line = f"{client.mac.hex(':')} {address} {int(time.time()) + lease_s} {took:.6f}\n"
        self._book.write(line.encode())
        client.acks += 1
        if client.number % 4 == 0 and client.acks == 1:
            self._send(client)
            return
        del self.waiting[client.number]
        self.done += 1


def _options(data: bytes) -> dict[int, bytes]:
    found = {}
    at = 0
    while at + 1 < len(data) and data[at] != 255:
        if data[at] == 0:
            at += 1
            continue
        found[data[at]] = data[at + 2 : at + 2 + data[at + 1]]
        at += 2 + data[at + 1]
    return found


def main() -> None:
    """Run the clients that the command line says."""
    parser = argparse.ArgumentParser(description="Many DHCP clients behind one relay.")
    parser.add_argument("server")
    parser.add_argument("relay")
    parser.add_argument("book", type=Path)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--window", type=int, default=64, help="clients that ask at a time")
    parser.add_argument("--rate", type=float, help="new clients a second, in place of as many as there can be")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--repeat", type=float, default=_REPEAT_S, help="seconds until a client repeats itself")
    asked = parser.parse_args()
    load = Load(asked.server, asked.relay, asked.book, asked.repeat)
    began = time.monotonic()
    number, last = asked.first, asked.first + asked.clients
    while (number < last or load.waiting) and time.monotonic() < began + asked.seconds:
        allowed = last if asked.rate is None else asked.first + int((time.monotonic() - began) * asked.rate)
        while number < min(last, allowed) and len(load.waiting) < asked.window:
            load.begin(number)
            number += 1
        load.turn(0.01 if asked.rate is None else 0.5 / asked.rate)
    print(load.done, f"{time.monotonic() - began:.3f}")


if __name__ == "__main__":
    main()
