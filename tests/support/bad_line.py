"""A bad line between a segment's server and one host: it loses, doubles, holds up and spoils what it is told to.

    server (eth1) ── port-s ── our program ── port-c ── client (eth0)

The two leave the bridge, and a program of ours passes their frames on. Only UDP suffers; what happens to a packet is
decided by a seed, or by what it is: the first OACK, say, or the ACK of block 7 twice.
"""

import heapq
import json
import random
import select
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.support.segment import Segment

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 60.0
_KINDS = {1: "RRQ", 3: "DATA", 4: "ACK", 5: "ERROR", 6: "OACK"}


@dataclass(frozen=True, slots=True)
class Faults:
    """What the line does, each as the share of packets that it happens to."""

    lose: float = 0.0
    double: float = 0.0
    late: float = 0.0
    """Held up for `late_s`, so that others overtake them."""
    late_s: float = 0.01
    spoil: float = 0.0
    """One byte is changed, the checksum is not."""
    delay_s: float = 0.0
    """What every packet takes in each direction."""
    seed: int = 1
    drop: Mapping[str, int] = field(default_factory=dict)
    """How many of a kind are lost, the first ones of each client: "RRQ", "OACK", "ACK 7", "DATA 1"."""


def put_between(segment: Segment, faults: Faults, folder: Path) -> None:
    """Have the line between the segment's server and client as bad as `faults`, until the segment ends.

    Needs `ethtool`: a card that leaves checksums to the next one would have them made right behind us.
    """
    for host in (segment.server, segment.client):
        host.run("ethtool", "-K", host.interface, "tx", "off", "gso", "off")
    for port in ("port-s", "port-c"):
        segment.bridge.run("ip", "link", "set", "dev", port, "nomaster")
    said = folder / "bad-line"
    argv = (sys.executable, "-m", "tests.support.bad_line", json.dumps(asdict(faults)))
    with said.open("w") as log:
        program = segment.bridge.popen(*argv, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + PATIENCE_S
    while "ready" not in said.read_text():
        assert program.poll() is None, said.read_text()
        assert time.monotonic() < deadline, said.read_text()
        time.sleep(0.02)


def kind_of(frame: bytes) -> str | None:
    """Return what TFTP packet an Ethernet frame holds, as `Faults.drop` calls it; None if it is no UDP over IPv4."""
    if frame[12:14] != b"\x08\0" or frame[23] != socket.IPPROTO_UDP:
        return None
    payload = frame[14 + 4 * (frame[14] & 15) + 8 :]
    kind = _KINDS.get(int.from_bytes(payload[:2], "big"), "other")
    return f"{kind} {int.from_bytes(payload[2:4], 'big')}" if kind in {"DATA", "ACK"} else kind


def _pass_on(faults: Faults) -> None:
    """Move frames between the two ports, for ever."""
    chance, dropped = random.Random(faults.seed), Counter[tuple[bytes, str]]()
    ports = [socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) for _ in range(2)]
    for port, name in zip(ports, ("port-s", "port-c"), strict=True):
        port.bind((name, 3))
    print("ready", flush=True)
    waiting: list[tuple[float, int, socket.socket, bytes]] = []
    number = 0
    while True:
        due_s = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for port in select.select(ports, [], [], due_s)[0]:
            frame, source = port.recvfrom(65536)
            if source[2] == socket.PACKET_OUTGOING:
                continue
            onto = ports[1 - ports.index(port)]
            for later_s, changed in _suffer(frame, port is ports[0], faults, chance, dropped):
                number += 1
                heapq.heappush(waiting, (time.monotonic() + later_s, number, onto, changed))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, onto, frame = heapq.heappop(waiting)
            onto.send(frame)


def _suffer(
    frame: bytes, to_client: bool, faults: Faults, chance: random.Random, dropped: Counter[tuple[bytes, str]]
) -> list[tuple[float, bytes]]:
    """Return the frames that come out, with the seconds that each takes."""
    kind = kind_of(frame)
    if kind is None:
        return [(0.0, frame)]
    ports = 14 + 4 * (frame[14] & 15)
    client = frame[ports + 2 : ports + 4] if to_client else frame[ports : ports + 2]
    if dropped[client, kind] < faults.drop.get(kind, 0):
        dropped[client, kind] += 1
        return []
    out = []
    for _ in range(1 + (chance.random() < faults.double)):
        if chance.random() < faults.lose:
            continue
        changed = frame
        if chance.random() < faults.spoil:
            at = chance.randrange(42, len(frame))
            changed = frame[:at] + bytes([frame[at] ^ 1 << chance.randrange(8)]) + frame[at + 1 :]
        out.append((faults.delay_s + faults.late_s * (chance.random() < faults.late), changed))
    return out


if __name__ == "__main__":
    _pass_on(Faults(**json.loads(sys.argv[1])))
