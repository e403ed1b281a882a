"""A connection without a socket: bytes in, bytes out. What a session asks for is carried out on disks in memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import groupby, pairwise

from nbd.actions import (
    Action,
    BlockStatus,
    Cache,
    Close,
    Command,
    ExportInfo,
    Flush,
    ListExports,
    OpenExport,
    Read,
    Send,
    StartTls,
    TlsMode,
    Trim,
    Write,
    WriteZeroes,
)
from nbd.engine import Session
from nbd.exports import Extent, Refused
from tests.support import nbd_talk as talk
from tests.support.nbd_talk import Answer, Chunk, Headers

PAGE = 4096
PIECE_BYTES = 1 << 18
"""How long a chunk of a READ becomes."""


@dataclass
class Disk:
    """An export: pages of zeros are holes."""

    content: bytearray
    writable: bool = False
    description: str = ""
    tls_only: bool = False
    fast_zero: bool = False
    flushed: int = 0

    def extents(self, offset: int, length: int) -> list[Extent]:
        """What a range consists of, up to the end of its last page."""
        end = min(-(-(offset + length) // PAGE) * PAGE, len(self.content))
        first = min(PAGE - offset % PAGE, end - offset)
        cuts = [offset, *range(offset + first, end, PAGE), end]
        pages = [(stop - start, self.content.count(0, start, stop) == stop - start) for start, stop in pairwise(cuts)]
        return [
            Extent(sum(size for size, _ in pages), hole=empty, zero=empty)
            for empty, pages in groupby(pages, key=lambda page: page[1])
        ]


@dataclass
class Driver:
    """One connection. `now` is the time of what happens."""

    exports: Mapping[str, Disk] = field(default_factory=dict)
    tls: TlsMode = TlsMode.NONE
    closed: Close | None = None
    now: float = 0.0
    opened: list[OpenExport] = field(default_factory=list)
    disk: Disk | None = None

    def __post_init__(self) -> None:
        self.session = Session(self.tls)
        self._out = bytearray()
        self._handshake = False
        self._obey(self.session.start(self.now))

    def out(self) -> bytes:
        """What was sent since it was last asked for."""
        sent = bytes(self._out)
        self._out.clear()
        return sent

    def say(self, *pieces: bytes) -> bytes:
        """Deliver bytes, and return what is sent. The first ones after a STARTTLS come through TLS."""
        for piece in pieces:
            if self.closed is None:
                if self._handshake:
                    self._handshake = False
                    self._obey(self.session.secured())
                self._obey(self.session.receive(piece, self.now))
        return self.out()

    def haggle(self, *pieces: bytes) -> list[Answer]:
        """Deliver options and return their answers."""
        return talk.answers(self.say(*pieces))

    def _obey(self, actions: list[Action]) -> None:
        for action in actions:
            assert self.closed is None, f"{action} after the end"
            assert not self._handshake, f"{action} before the TLS handshake"
            match action:
                case Send(data):
                    self._out += data
                case OpenExport():
                    self._open(action)
                case ListExports():
                    names = [name for name, disk in self.exports.items() if name]
                    self._obey(self.session.exports_listed(names))
                case StartTls():
                    self._handshake = True
                case Close():
                    self.closed = action
                case _:
                    assert self.disk is not None
                    self._command(action, self.disk)

    def _open(self, action: OpenExport) -> None:
        self.opened.append(action)
        disk = self.exports.get(action.name)
        if disk is None:
            self._obey(self.session.export_refused(Refused.UNKNOWN))
        elif disk.tls_only and not self.session.secure:
            self._obey(self.session.export_refused(Refused.TLS_REQUIRED))
        else:
            if action.keep:
                self.disk = disk
            info = ExportInfo(len(disk.content), disk.writable, disk.description, disk.fast_zero)
            self._obey(self.session.export_opened(info))

    def _command(self, action: Command, disk: Disk) -> None:
        replies = self.session.replies
        match action:
            case Read(cookie, offset, length, whole):
                self._inside(disk, offset, length)
                whole = whole and replies.chunked and length > PIECE_BYTES
                most = length if whole or not replies.chunked else PIECE_BYTES
                for start in range(offset, offset + length, most):
                    piece = disk.content[start : min(start + most, offset + length)]
                    done = start + most >= offset + length and not whole
                    self._out += replies.data(cookie, start, len(piece), done=done, start=offset) + piece
                if whole:  # a chunk that is sent in pieces cannot say that it is the last one
                    self._out += replies.ok(cookie, offset)
            case BlockStatus(_, offset, length):
                self._inside(disk, offset, length)
                self._out += replies.block_status(action, disk.extents(offset, length))
            case Cache(cookie, offset, length):
                self._inside(disk, offset, length)
                self._out += replies.ok(cookie, offset)
            case Flush(cookie, offset):
                disk.flushed += 1
                self._out += replies.ok(cookie, offset)
            case Write(cookie, offset, data, last, _, start):
                assert disk.writable
                self._inside(disk, offset, len(data))
                disk.content[offset : offset + len(data)] = data
                if last:
                    self._out += replies.ok(cookie, start)
            case Trim(cookie, offset, length) | WriteZeroes(cookie, offset, length):
                assert disk.writable
                self._inside(disk, offset, length)
                disk.content[offset : offset + length] = bytes(length)
                self._out += replies.ok(cookie, offset)

    def _inside(self, disk: Disk, offset: int, length: int) -> None:
        """The engine has checked every range."""
        assert length > 0
        assert offset >= 0
        assert offset + length <= len(disk.content)

    def ask(
        self, kind: int, offset: int = 0, length: int = 0, flags: int = 0, payload: bytes = b"", *, cookie: int = 7
    ) -> list[Chunk]:
        """Send one command and return its answer."""
        extended = self.headers is Headers.EXTENDED
        if extended and kind == talk.WRITE:
            flags |= talk.PAYLOAD_LEN
        said = talk.request(kind, cookie, offset, length, flags, payload, extended=extended)
        found = talk.chunks(self.say(said), self.headers, {cookie: length} if kind == talk.READ else {})
        assert {chunk.cookie for chunk in found} <= {cookie}
        assert all(chunk.at in {None, offset} for chunk in found)
        return found

    headers: Headers = Headers.SIMPLE


HAGGLED = {
    Headers.SIMPLE: b"",
    Headers.STRUCTURED: talk.option(talk.STRUCTURED_REPLY),
    Headers.EXTENDED: talk.option(talk.EXTENDED_HEADERS),
}


def greeted(exports: Mapping[str, Disk], tls: TlsMode = TlsMode.NONE, flags: int = 3) -> Driver:
    """A connection that has its client's flags."""
    driver = Driver(exports, tls)
    assert driver.out() == talk.GREETING
    driver.say(flags.to_bytes(4, "big"))
    return driver


def transmitting(exports: Mapping[str, Disk], name: str, headers: Headers, *queries: str) -> Driver:
    """A connection that has its export, and the metadata contexts of `queries`."""
    driver = greeted(exports)
    driver.headers = headers
    said = HAGGLED[headers] + (talk.contexts(name, *queries) if queries else b"") + talk.choose(name)
    assert driver.haggle(said)[-1].kind == talk.ACK
    return driver
