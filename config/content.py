"""What a machine may fetch: the seam between the boot files and the servers that carry them.

A name resolves to a `Content`: an open file on disk, or bytes made for this machine now. TFTP and HTTP are
two doors to the same tree, so both are handed one `Lookup` and neither knows where the bytes come from.
"""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A regular file, already open for reading, so that no later rename or link can change what is sent.

    Whoever receives it closes it, once. `etag` is strong and without its quotes: it differs whenever the
    bytes differ. `immutable` is true for content that is named by its digest.
    """

    name: str
    fd: int
    size_bytes: int
    etag: str
    modified_s: float | None
    """Seconds since 1970, for Last-Modified; None to send none."""
    immutable: bool = False
    device: int = 0
    """The disk that it is on (`st_dev`), so that one that hangs can be told from the others; 0: not known."""

    def pread(self, length: int, offset: int) -> bytes:
        """Read up to `length` bytes from `offset`; shorter only at the end. May block on a disk.

        Raises `OSError`.
        """
        return os.pread(self.fd, length, offset)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)


@dataclass(frozen=True, slots=True)
class Made:
    """Bytes made for one machine. `secret` content is never cached and never logged, nor shown by `repr`.

    `immutable` is true for what is made from content that is named by its digest, and so is the same for everybody.
    """

    name: str
    data: bytes = field(repr=False)
    etag: str
    secret: bool = False
    immutable: bool = False

    @property
    def size_bytes(self) -> int:
        """The length of `data`."""
        return len(self.data)

    def pread(self, length: int, offset: int) -> bytes:
        """The same as `OpenFile.pread`; never blocks."""
        return self.data[offset : offset + length]

    def close(self) -> None:
        """Nothing to give back."""


Content = OpenFile | Made

Lookup = Callable[[str, IPv4Address], Awaitable[Content | None]]
"""(name, who asks) → what to send, or None when there is no such name for this machine.

`name` is relative, with single slashes and no leading one: each server normalises what its clients send. It may
hold anything else a peer can write; the lookup refuses what leads out of the tree. It never blocks the loop.

Raises `OSError` for a broken disk, of these `TimeoutError` for one that hangs and that many wait for already.
"""


class Withheld(Exception):
    """There is such a name, and it is not given to whoever asks. `why` is for people, and holds no secret.

    The name itself is one, and is not logged.
    """

    def __init__(self, why: str) -> None:
        """Say `why`, on one line."""
        super().__init__(why)
        self.why = why


class NotNow(Withheld):
    """It will be given later: whoever asks is to ask again in `retry_after_s`."""

    def __init__(self, why: str, retry_after_s: int) -> None:
        """Say `why`, and when to ask again."""
        super().__init__(why)
        self.retry_after_s = retry_after_s


class Gone(Withheld):
    """It was given, or will never be any more."""


class NotYours(Withheld):
    """It is as if there were no such name."""


@dataclass(frozen=True, slots=True)
class Once:
    """What is given to one client, once. To look whether it is there does not spend it."""

    name: str
    take: Callable[[Callable[[], bool]], Awaitable[Made]]
    """Spends it, and returns it; is handed what says whether the client still waits.

    Raises `Withheld`, or `ConnectionResetError` when the client has gone, which spends nothing.
    """

    def close(self) -> None:
        """Nothing to give back."""


WebLookup = Callable[[str, IPv4Address], Awaitable[Content | Once | None]]
"""What HTTP is handed: a `Lookup` that knows names besides which are given once. It raises `Withheld` for these."""
