"""Datagrams grown by what code they reach, against the TFTP server in this process and the pure parts of it.

    python -m tests.fuzz.fuzz_tftp [SECONDS [INPUT]]

The first byte of an input chooses the target in `TARGETS`. What a parser says it raises is fine; an answer that is no
packet, breaks the terms or holds more than the file, an ERROR that is answered, and any error in the log end the run
with a code that is not 0, print the input, and leave it in .build/fuzz. With INPUT, a file, only that is run.
"""

import asyncio
import logging
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address

import atheris

with atheris.instrument_imports(include=["tftp"]):
    from tftp import wire
    from tftp.engine import Finished, SendBlock, SendError, SendOptionAck, Transfer
    from tftp.errors import Refused
    from tftp.memory import STEPS, Memory, lost_blksize
    from tftp.names import normalise
    from tftp.options import Most, is_netascii, negotiate
    from tftp.transport import Limits, Server

from config.content import Content, Made
from config.delivery import Tftp
from tests.fuzz.running import run
from tests.unit.test_tftp_wire import PACKETS

LONGEST = 2048
FILE = bytes(byte for byte in range(256) if byte not in b"\r\n") * 40  # the same as netascii
REQUEST = b"\0\1f\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0"


def packets(data: bytes) -> None:
    """One datagram."""
    with suppress(wire.MalformedPacket):
        packet = wire.decode(data)
        assert wire.decode(packet.encode()) == packet


def names(data: bytes) -> None:
    """A file's name."""
    with suppress(Refused):
        name = normalise(data)
        assert all(part not in {"", ".", ".."} for part in name.split("/"))
        assert name.isprintable()
        assert normalise(name.encode()) == name


def parts(data: bytes) -> Iterator[bytes]:
    """The pieces of an input, each behind its length."""
    while data:
        size = data[0]
        yield data[1 : 1 + size]
        data = data[1 + size :]


def transfers(data: bytes) -> None:
    """A request, then what its client says and how long it is silent: whatever it is, the terms hold."""
    first, *rest = [*parts(data)] or [b""]
    try:
        request = wire.decode(b"\0\1" + first)
        assert isinstance(request, wire.ReadRequest)
        is_netascii(request)
    except (wire.MalformedPacket, Refused):
        return
    size, mtu = len(first) * 97, 576 + 8 * len(rest)
    terms = negotiate(request, size, mtu, Most(rollover=len(first) % 2))
    assert set(terms.accepted) <= set(request.options)
    assert "blksize" not in terms.accepted or terms.blksize + 32 <= mtu
    transfer, now, unanswered = Transfer(size, terms), 0.0, 0
    actions = transfer.start(now)
    for piece in [*rest, b""]:
        for action in actions:
            match action:
                case SendBlock(block, offset, length):
                    assert offset == (block - 1) * terms.blksize
                    assert length == min(terms.blksize, size - offset) >= 0
                    unanswered += not transfer.answered
                case SendOptionAck():
                    unanswered += not transfer.answered
                case SendError(_, message):
                    assert len(message) <= 64
                case Finished():
                    assert transfer.deadline is None
        assert len(actions) <= terms.windowsize + 1
        assert unanswered <= 5
        now += len(piece) / 16
        if len(piece) % 3 == 0:
            actions = transfer.expire(max(now, transfer.deadline or now))
            continue
        actions = []
        with suppress(wire.MalformedPacket):
            actions = transfer.receive(wire.decode(piece), now)
    lost = lost_blksize(transfer, now)
    if lost is not None:
        memory = Memory()
        memory.lost("client", lost, now)
        assert memory.most("client", now) in {None, *STEPS}


class Complaints(logging.Handler):
    """Errors of the log end the run."""

    def emit(self, record: logging.LogRecord) -> None:
        """Remember that there was one."""
        if record.levelno >= logging.ERROR:
            SAID.append(record.getMessage())


SAID: list[str] = []


async def lookup(name: str, _peer: IPv4Address) -> Content | None:
    """One file, and names that are none."""
    return Made(name, FILE[: 1 + 37 * len(name)], "") if len(name) < 9 else None


async def conversation(data: bytes, settings: Tftp) -> None:
    """What three clients say to port 69, or to whoever answered last."""
    loop = asyncio.get_running_loop()
    listener, *clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(4)]
    for sock in (listener, *clients):
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
    server = Server(listener, lookup, lambda _: None, lambda _: None, Limits(4, 2, carriers=0), settings)
    last: dict[socket.socket, tuple[str, int]] = {client: listener.getsockname() for client in clients}
    try:
        for piece in parts(data):
            client = clients[piece[0] % 3] if piece else clients[0]
            to = last[client] if piece and piece[0] & 4 else listener.getsockname()
            client.sendto(piece[1:], to)
            for _ in range(6):
                await asyncio.sleep(0)
            for receiver in clients:
                with suppress(BlockingIOError):
                    while True:
                        answer, sender = receiver.recvfrom(70_000)
                        packet = wire.decode(answer)
                        assert isinstance(packet, wire.Data | wire.OptionAck | wire.Error)
                        assert not isinstance(packet, wire.Data) or packet.data in FILE
                        assert not isinstance(packet, wire.Error) or piece[1:3] != b"\0\5"
                        last[receiver] = sender
    finally:
        server.close()
        for sock in (listener, *clients):
            sock.close()
        await asyncio.sleep(0)
    assert loop.is_running()
    assert not SAID, SAID


def conversations(data: bytes) -> None:
    """The whole server."""
    if data:
        settings = Tftp(single_port=bool(data[0] & 1), rollover=data[0] >> 1 & 1)
        asyncio.run(conversation(data[1:], settings))


TARGETS: tuple[Callable[[bytes], None], ...] = (packets, names, transfers, conversations)


def once(data: bytes) -> None:
    """Run one input."""
    if len(data) > 1:
        try:
            TARGETS[data[0] % len(TARGETS)](data[1:])
        except Exception:
            print(f"failed in {TARGETS[data[0] % len(TARGETS)].__name__} with {data.hex()}", file=sys.stderr)
            raise


def seeds() -> list[bytes]:
    """Recorded packets, names of firmware, and two whole transfers."""
    recorded = [bytes.fromhex(str(parameter.values[0])) for parameter in PACKETS]
    found = [b"\0" + packet for packet in recorded]
    found += [b"\1" + name for name in (b"\\EFI\\BOOT\\x", b"//x", b"../x", b"a/./b", b"lpxelinux.0\xff", b"\xc0\xae")]
    acks = [b"\0\4" + number.to_bytes(2, "big") for number in range(8)]
    said = [REQUEST[2:], *acks, b"\0\5\0\1x\0", b"abc"]
    found.append(b"\2" + b"".join(bytes((len(piece),)) + piece for piece in said))
    for single in (0, 1):
        spoken = [
            b"\0" + REQUEST,
            *(b"\4" + ack for ack in acks),
            b"\1" + REQUEST,
            b"\5\0\5\0\0no\0",
            b"\2\0\2f\0octet\0",
        ]
        found.append(bytes((3, single)) + b"".join(bytes((len(piece),)) + piece for piece in spoken))
    return found


if __name__ == "__main__":
    logging.getLogger().addHandler(Complaints())
    run("corpus-tftp", once, seeds, LONGEST, timeout_s=10)
