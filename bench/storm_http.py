"""HTTP as GRUB and an initramfs speak it: a client that throws large bodies away in the kernel.

What is received of an image is counted and not copied (MSG_TRUNC), so that two processors can play a server and a
thousand machines at once.
"""

import asyncio
import hashlib
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Self

_MAX_HEAD = 16384
_PIECE = 1 << 20
_WAKE = 1 << 17
"""Bytes that have to be there before we are woken; fewer at the end of a body."""
_BUFFER = 1 << 19
"""What a machine's TCP has room for. All of them share this kernel, which has room for some 2 GB."""
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ([^\r\n]*)")
_RETRY_AFTER = re.compile(r"Retry-After: (\d{1,4})")
_scrap = bytearray(_PIECE)


class Broken(Exception):
    """The connection ended, stood still, or what came is not what HTTP says."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an answer."""

    status: int
    reason: str
    """What stands behind the status."""
    fields: Mapping[str, str]
    """Field names in lower case."""

    @property
    def length(self) -> int:
        """Bytes of the body. Raises `Broken` if it is not said."""
        if self.status in (204, 304):
            return 0
        text = self.fields.get("content-length", "")
        if not text.isdigit():
            raise Broken(f"an answer without Content-Length: {self}")
        return int(text)

    @property
    def turn_s(self) -> int | None:
        """How long a machine that is told to wait does so, in seconds; None if it is not told so that it hears it.

        That is in the status line: busybox's wget shows nothing else (node/mountroot, `await_turn`).
        """
        told = _RETRY_AFTER.search(self.reason) if self.status == 503 else None
        return None if told is None else min(60, max(1, int(told[1])))

    @property
    def keeps(self) -> bool:
        """Whether the connection may be used again."""
        return self.fields.get("connection", "").lower() != "close"


def parse_head(text: bytes) -> Head:
    """Return what a head says, from its status line to the last field. Raises `Broken`."""
    lines = text.split(b"\r\n")
    status = _STATUS.match(lines[0])
    if status is None:
        raise Broken(f"no status line: {lines[0][:80]!r}")
    fields = {}
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon:
            raise Broken(f"no field: {line[:80]!r}")
        fields[name.decode("latin-1").lower()] = value.decode("latin-1").strip()
    return Head(int(status[1]), status[2].decode("latin-1"), fields)


class Connection:
    """One connection from a machine's address. A context manager: closed at its end."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._early = b""

    @classmethod
    async def open(cls, source: IPv4Address, server: IPv4Address, within_s: float) -> Self:
        """Connect. Raises `Broken`."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            sock.bind((str(source), 0))
            async with asyncio.timeout(within_s):
                await asyncio.get_running_loop().sock_connect(sock, (str(server), 80))
        except BaseException as error:
            sock.close()
            if isinstance(error, OSError):  # a timeout is one, too
                raise Broken(f"no connection: {error or 'no answer in time'}") from None
            raise
        return cls(sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    async def ask(self, request: bytes, within_s: float) -> Head:
        """Send a request and return the head of its answer. Raises `Broken`."""
        received = self._early
        try:
            async with asyncio.timeout(within_s):
                await self._loop.sock_sendall(self._sock, request)
                while b"\r\n\r\n" not in received:
                    piece = await self._loop.sock_recv(self._sock, 4096)
                    if not piece:
                        raise Broken("closed before an answer")
                    received += piece
                    if len(received) > _MAX_HEAD:
                        raise Broken("a head without an end")
        except OSError as error:
            raise Broken(f"no answer: {error or 'not in time'}") from None
        head, _, self._early = received.partition(b"\r\n\r\n")
        return parse_head(head)

    async def read(self, length: int, still_s: float) -> bytes:
        """Return a body of `length` bytes. Raises `Broken` if nothing comes for `still_s`."""
        parts = [self._early[:length]]
        self._early = self._early[length:]
        left = length - len(parts[0])
        try:
            while left:
                async with asyncio.timeout(still_s):
                    piece = await self._loop.sock_recv(self._sock, min(left, 1 << 16))
                if not piece:
                    raise Broken(f"closed {left} bytes before its end")
                parts.append(piece)
                left -= len(piece)
        except OSError as error:
            raise Broken(f"{left} bytes before its end: {error or 'it stands still'}") from None
        return b"".join(parts)

    async def discard(
        self,
        length: int,
        still_s: float,
        digest: "hashlib._Hash | None" = None,
        seen: Callable[[int], None] = lambda _: None,
    ) -> int:
        """Receive `length` bytes and throw them away, into `digest` if one is given; return how many came.

        Fewer come when the connection ends, or stands still for `still_s`. `seen` is told of each piece.
        """
        early = self._early[:length]
        self._early = self._early[length:]
        if digest is not None:
            digest.update(early)
        got = await _Receiver(self._sock, length - len(early), still_s, digest, seen).run()
        return len(early) + got


class _Receiver:
    """Receives bytes from a socket until there are enough, with one callback for each piece."""

    def __init__(
        self,
        sock: socket.socket,
        wanted: int,
        still_s: float,
        digest: "hashlib._Hash | None",
        seen: Callable[[int], None],
    ) -> None:
        self._sock = sock
        self._seen = seen
        self._left = wanted
        self._still_s = still_s
        self._digest = digest
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._moved = True
        self._low = 1

    async def run(self) -> int:
        """Return how many bytes came."""
        wanted = self._left
        if not wanted:
            return 0
        self._wake_at()
        self._loop.add_reader(self._sock, self._readable)
        timer = self._loop.call_later(self._still_s, self._look)
        try:
            await self._over
        finally:
            self._loop.remove_reader(self._sock)
            timer.cancel()
            self._over.cancel()
        return wanted - self._left

    def _look(self) -> None:
        """End what has not moved since the last look."""
        if self._over.done():
            return
        if not self._moved:
            self._readable()  # there may be too little to wake us, and no room for more
        if not self._moved and not self._over.done():
            self._over.set_result(None)
        if self._over.done():
            return
        self._moved = False
        self._loop.call_later(self._still_s, self._look)

    def _readable(self) -> None:
        try:
            if self._digest is None:
                got = self._sock.recv_into(_scrap, min(_PIECE, self._left), socket.MSG_TRUNC)
            else:
                got = self._sock.recv_into(_scrap, min(_PIECE, self._left))
                self._digest.update(memoryview(_scrap)[:got])
        except BlockingIOError:
            return
        except OSError:
            got = 0
        self._moved = True
        self._left -= got
        self._seen(got)
        if not got or not self._left:
            self._over.set_result(None)
        else:
            self._wake_at()

    def _wake_at(self) -> None:
        low = _WAKE if self._left > 2 * _WAKE else 1
        if low != self._low:
            self._low = low
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, low)
