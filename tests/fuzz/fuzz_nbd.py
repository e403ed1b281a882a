"""Conversations grown by what code they reach, against the NBD session, its answers and its short way.

    python -m tests.fuzz.fuzz_nbd [SECONDS [INPUT]]

The first byte of an input chooses the target in `TARGETS`. What a parser says it raises is fine. A session that
raises, answers what the specification does not allow, answers otherwise when the same bytes come in other pieces, or
keeps more than a bound, ends the run with a code that is not 0, prints the input, and leaves it in .build/fuzz. With
INPUT, a file, only that is run.
"""

import asyncio
import logging
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from ipaddress import IPv4Address

import atheris

with atheris.instrument_imports(include=["nbd"]):
    from nbd import wire
    from nbd.exports import Asked, Export, Extent, Refused
    from nbd.metadata import MetaContextRequest
    from nbd.service import Service
    from tests.support import nbd_checks

from tests.fuzz.running import run
from tests.support import nbd_talk as talk
from tests.support.nbd_driver import Disk, Driver

LONGEST = 1024
SILENCE_S = 5.0
"""How long the server may take to answer what it has."""


def packets(data: bytes) -> None:
    """The data of an option: whatever is understood says the same when it is said again."""
    for kind in (wire.InfoRequest, MetaContextRequest):
        with suppress(wire.MalformedPacket):
            request = kind.decode(data)
            assert request.encode() == data
            assert len(request.name.encode()) <= 4096


class Memory:
    """A disk in memory as `nbd.exports.Export`; some of it has to be waited for."""

    def __init__(self, name: str, disk: Disk) -> None:
        self.name = name
        self.description = disk.description
        self.size_bytes = len(disk.content)
        self.writable = disk.writable
        self.fd: int | None = None
        self.file_bytes = 0
        self.device = 0
        self._disk = disk

    def intact(self) -> bool:
        """Always."""
        return True

    def read_warm(self, into: memoryview, offset: int) -> bool:
        """Read what is not in every third stretch of 32 KiB."""
        if offset >> 15 & 3 == 1:
            return False
        self.read(into, offset)
        return True

    def window(self, offset: int, length: int) -> memoryview | None:
        """Show what is in every other stretch of 32 KiB."""
        if offset >> 15 & 1:
            return None
        return memoryview(bytes(self._disk.content[offset : offset + length]))

    def read(self, into: memoryview, offset: int) -> None:
        """Read."""
        into[:] = self._disk.content[offset : offset + len(into)]

    def write(self, data: memoryview, offset: int, *, fua: bool) -> None:
        """Write."""
        self._disk.content[offset : offset + len(data)] = data

    def write_zeroes(self, offset: int, length: int, *, no_hole: bool, fua: bool) -> None:
        """Zero."""
        self._disk.content[offset : offset + length] = bytes(length)

    def trim(self, offset: int, length: int, *, fua: bool) -> None:
        """Zero."""
        self._disk.content[offset : offset + length] = bytes(length)

    def flush(self) -> None:
        """Nothing to do."""

    def extents(self, offset: int, length: int, most: int) -> Sequence[Extent]:
        """As the disk says."""
        return self._disk.extents(offset, length)[:most]

    def prefetch(self, offset: int, length: int) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


class Errors(logging.Handler):
    """Errors of the log end the run."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.lines.append(self.format(record))


class Server:
    """The real one but for its listening socket, with a loop in a thread; it begins when it is first asked."""

    def __init__(self) -> None:
        self.errors = Errors()
        self._exports: dict[str, Disk] = {}
        self._service: Service | None = None
        self._loop = asyncio.new_event_loop()

    async def open(self, asked: Asked) -> Export | Refused:
        """Open what the driver has too."""
        disk = self._exports.get(asked.name)
        if disk is None:
            return Refused.UNKNOWN
        return Refused.TLS_REQUIRED if disk.tls_only else Memory(asked.name, disk)

    async def names(self, peer: IPv4Address, secure: bool) -> Sequence[str]:
        """The same, too."""
        return [name for name in self._exports if name]

    async def _connect(self, sock: socket.socket, ended: Future[None]) -> None:
        if self._service is None:
            self._service = Service(self, lambda _: None)
        self._service.admit(sock, IPv4Address("127.0.0.1"), lambda _: ended.set_result(None))

    def answer(self, stream: bytes, step: int, expected: int) -> bytes:
        """Say all this in pieces, and return as many bytes as are expected, and those that come with them."""
        if self._service is None:
            logging.getLogger().addHandler(self.errors)
            logging.getLogger("nbd").setLevel(logging.ERROR)
            threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._exports = nbd_checks.exports()
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        ours.settimeout(SILENCE_S)
        ended: Future[None] = Future()
        asyncio.run_coroutine_threadsafe(self._connect(theirs, ended), self._loop).result(SILENCE_S)
        got = bytearray()
        with ours, suppress(ConnectionError):
            sender = threading.Thread(target=self._say, args=(ours, stream, step))
            sender.start()
            while len(got) < expected and (received := ours.recv(1 << 20)):
                got += received
            sender.join()
            ours.setblocking(False)
            with suppress(BlockingIOError):
                got += ours.recv(1 << 20)
        ended.result(SILENCE_S)
        assert not self.errors.lines, self.errors.lines
        return bytes(got)

    def _say(self, sock: socket.socket, stream: bytes, step: int) -> None:
        with suppress(OSError):  # the server may have had enough
            for start in range(0, len(stream), step):
                sock.sendall(stream[start : start + step])


SERVER = Server()


def served(data: bytes) -> None:
    """The whole server, with its threads: the same bytes as the session on a disk in memory, in any order."""
    if len(data) < 2:
        return
    driver = Driver(nbd_checks.exports())
    stream = talk.FLAGS + (b"", talk.option(8), talk.option(11))[data[0] % 3]
    driver.say(stream)
    for item in nbd_checks.parts(data[1:]):
        if driver.closed is None:
            said = nbd_checks.message(item, driver).data
            driver.say(said)
            stream += said
    expected = Driver(nbd_checks.exports()).say(stream)
    got = SERVER.answer(stream, 1 + data[-1] * 7 + len(stream) // 1000, len(expected))
    if all(disk.content == nbd_checks.PATTERN for disk in driver.exports.values()):  # else writes may be read or not
        assert sorted(got) == sorted(expected)
    assert len(got) == len(expected)


TARGETS: tuple[Callable[[bytes], None], ...] = (*nbd_checks.CHECKS, packets, served)


def once(data: bytes) -> None:
    """Run one input."""
    if len(data) > 1:
        try:
            TARGETS[data[0] % len(TARGETS)](data[1:])
        except Exception:
            print(f"failed in {TARGETS[data[0] % len(TARGETS)].__name__} with {data.hex()}", file=sys.stderr)
            raise


def seeds() -> list[bytes]:
    """A conversation of each kind, as items and as bytes."""
    found = []
    for form in (b"", b"\1\4", b"\1\x0a"):  # none, structured, extended
        for name in (1, 2):
            start = b"\x0c" + form + bytes((3, 75, name, 0)) + bytes((4, 8, name, 3, 1))
            commands = b"".join(
                bytes((6, kind, kind % 3, 4, 0, kind & 1, 0)) for kind in (0, 1, 3, 4, 5, 6, 7, 9, 0, 2)
            )
            found.append(b"\0" + start + commands)
    said = talk.request(talk.READ, 1, 0, 512) + talk.request(talk.WRITE, 2, 0, payload=b"x" * 40)
    said += talk.request(talk.BLOCK_STATUS, 3, 0, 4096) + talk.request(talk.DISC, 4)
    options = talk.option(talk.LIST) + talk.choose("node", 1, 3) + talk.option(99, b"x")
    found += [b"\1\0" + talk.FLAGS + options, *(b"\1" + bytes((9 + 3 * n,)) + said for n in range(2))]
    found.append(b"\1\x0c" + talk.request(talk.TRIM, 1, 0, 512, extended=True))
    found += [b"\2" + bytes((n, n, 1, 66, 130, 3, 195)) for n in range(8)]
    found.append(b"\3\0\0\7" + b"\2\1\2\2\3\4\2\5\6\6\x80\0\4\0\0\0\2\1\1")
    found += [b"\4" + option[16:] for option in (talk.choose("node", 1, 2, 3), talk.contexts("node", "base:", "x:y"))]
    return found + [b"\5" + bytes((n % 3,)) + seed[2:] for n, seed in enumerate(found) if seed[0] == 0]


if __name__ == "__main__":
    run("corpus-nbd", once, seeds, LONGEST, timeout_s=10)
