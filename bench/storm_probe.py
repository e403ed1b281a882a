"""Asks at a steady rate, and measures every answer: DHCP's and that of a small file over HTTP.

    python -m bench.storm_probe INTERFACE ADDRESS [--dhcp RATE] [--strangers RATE] [--file PATH --files RATE]

Runs on a machine of its own, that is, in a namespace without load, until its standard input ends; then prints one
JSON object: delays in milliseconds, by kind, and how long it was kept from asking. A DHCP delay ends when the kernel
received the answer, and that of a file when all of it was read: so how soon this process gets a processor does not
count, or hardly.
"""

import argparse
import asyncio
import gc
import itertools
import json
import os
import struct
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv4Address

from bench.dhcp_machines import FIRMWARE, Doing, Machine, Reply
from bench.storm_http import Broken, Connection
from bench.storm_wire import Wire

LATE_S = 2.0
"""After this long an answer is lost; machines would ask again."""
STILL_S = 0.1
"""A process that comes so much too late had no processor."""
KNOWN = 64
"""How many machines of the farm ask in turn."""
SERVER = IPv4Address("10.28.0.1")


def known_mac(number: int) -> bytes:
    """Return the MAC of one of the machines that the farm lists for us."""
    return b"\x52\x54\x09\x00" + struct.pack("!H", number)


def known_address(number: int) -> IPv4Address:
    """Return its address."""
    return IPv4Address(f"10.28.100.{number + 1}")


@dataclass(slots=True)
class Exchange:
    """A DHCP exchange that goes on."""

    machine: Machine
    kind: str
    asked_s: float


class Probe:
    """Asks, and keeps how long the answers took."""

    def __init__(self, interface: str, source: IPv4Address) -> None:
        self._wire = Wire(interface, self._heard)
        self._source = source
        self._exchanges: dict[int, Exchange] = {}
        self._xids = itertools.count(int.from_bytes(os.urandom(3)) << 8)
        self.delays_ms: defaultdict[str, list[float]] = defaultdict(list)
        """By what was asked for: "static OFFER", "static ACK", "dynamic OFFER", "dynamic ACK", "file"."""
        self.lost: defaultdict[str, int] = defaultdict(int)
        self.stood_still_s = 0.0
        """How long this process had no processor when it should have asked: nothing that it measures says less."""

    def dhcp(self, number: int, stranger: bool) -> None:
        """Begin an exchange."""
        mac = b"\x0a" + os.urandom(5) if stranger else known_mac(number % KNOWN)
        xid = next(self._xids) & 0xFFFFFFFF
        machine = Machine(mac, xid, number % 2 == 0, 0.0, says=FIRMWARE)
        exchange = Exchange(machine, "dynamic" if stranger else "static", 0.0)
        self._exchanges[xid] = exchange
        exchange.asked_s = self._wire.send(mac, machine.expire(time.monotonic()))
        asyncio.get_running_loop().call_later(LATE_S, self._late, xid)

    async def file(self, path: str) -> None:
        """Fetch a small file on a connection of its own, as GRUB does."""
        began = time.perf_counter()
        request = f"GET {path} HTTP/1.1\r\nHost: {SERVER}\r\nUser-Agent: GRUB 2.06\r\n\r\n".encode()
        try:
            async with asyncio.timeout(LATE_S):
                with await Connection.open(self._source, SERVER, LATE_S) as connection:
                    head = await connection.ask(request, LATE_S)
                    await connection.read(head.length, LATE_S)
        except (Broken, TimeoutError):
            self.lost["file"] += 1
            return
        if head.status != 200:
            self.lost["file"] += 1
            return
        self.delays_ms["file"].append((time.perf_counter() - began) * 1000)

    async def steadily(self, rate: float, ask: Callable[[int], Awaitable[None] | None]) -> None:
        """Call `ask` with 0, 1, 2, ... at `rate` a second, without waiting for what it begins, until cancelled."""
        if not rate:
            return
        loop = asyncio.get_running_loop()
        due = loop.time()
        async with asyncio.TaskGroup() as tasks:
            for number in itertools.count():
                await asyncio.sleep(max(0.0, due - loop.time()))
                late_s = loop.time() - due
                if late_s > STILL_S:  # what was not asked is not made up for: that would be a flood
                    self.stood_still_s = max(self.stood_still_s, late_s)
                    due = loop.time()
                due += 1 / rate
                asked = ask(number)
                if asked is not None:
                    tasks.create_task(_wait(asked))

    def result(self) -> dict[str, object]:
        """Return what there is; what is still out is neither counted nor lost."""
        names = {*self.delays_ms, *self.lost}
        delays = {name: {"delays_ms": self.delays_ms[name], "lost": self.lost[name]} for name in names}
        return {"stood_still_s": self.stood_still_s, "delays": delays}

    def _heard(self, reply: Reply, _payload: bytes, at_s: float) -> None:
        exchange = self._exchanges.get(reply.xid)
        if exchange is None:
            return
        machine = exchange.machine
        before = machine.doing
        said = machine.receive(reply, time.monotonic())
        if machine.doing is before:
            return
        self.delays_ms[_name(exchange.kind, before)].append((at_s - exchange.asked_s) * 1000)
        if said is not None:
            exchange.asked_s = self._wire.send(machine.mac, said)
        else:
            del self._exchanges[reply.xid]

    def _late(self, xid: int) -> None:
        self._wire.receive_all()  # it may be this process that is late
        exchange = self._exchanges.pop(xid, None)
        if exchange is not None:
            self.lost[_name(exchange.kind, exchange.machine.doing)] += 1


def _name(kind: str, doing: Doing) -> str:
    return f"{kind} {'OFFER' if doing is Doing.SELECTING else 'ACK'}"


async def _wait(what: Awaitable[None]) -> None:
    await what


async def probe(options: argparse.Namespace) -> dict[str, object]:
    """Ask until standard input ends."""
    asker = Probe(options.interface, options.address)
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_reader(sys.stdin, over.set)
    try:
        tasks = [
            asyncio.create_task(asker.steadily(options.dhcp, lambda number: asker.dhcp(number, False))),
            asyncio.create_task(asker.steadily(options.strangers, lambda number: asker.dhcp(number, True))),
            asyncio.create_task(asker.steadily(options.files, lambda _: asker.file(options.file))),
        ]
        await over.wait()
        for task in tasks:
            task.cancel()
        for done in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(done, Exception):
                raise done
    finally:
        loop.remove_reader(sys.stdin)
    return asker.result()


def main() -> int:
    """Ask, and print."""
    parser = argparse.ArgumentParser(description="Measures the delay of answers.")
    parser.add_argument("interface")
    parser.add_argument("address", type=IPv4Address)
    parser.add_argument("--dhcp", type=float, default=0.0, help="exchanges a second of machines that are listed")
    parser.add_argument("--strangers", type=float, default=0.0, help="and of those that are not")
    parser.add_argument("--file", default="/", help="what is fetched over HTTP")
    parser.add_argument("--files", type=float, default=0.0, help="how often in a second")
    options = parser.parse_args()
    gc.freeze()
    print(json.dumps(asyncio.run(probe(options))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
