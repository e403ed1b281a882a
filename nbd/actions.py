"""What a `nbd.engine.Session` asks of whoever owns its socket, and what it wants to know of exports.

Carried out in this order, but for the commands of the transmission phase (`Read` to `BlockStatus`): several of those
may be under way at once and be answered in any order, by bytes that `nbd.replies` makes; `cookie` tells the client
which is which. Their ranges are inside the export and not empty, and it can do what they ask.
"""

from dataclasses import dataclass
from enum import Enum, auto

MAX_WRITE_PIECE_BYTES = 1 << 18
"""The most data in one `Write`: a longer command comes in pieces, so that no client has us keep 32 MiB."""


class TlsMode(Enum):
    """What a server says to STARTTLS (TLS support)."""

    NONE = auto()
    """NOTLS: there is no TLS."""
    OFFERED = auto()
    """SELECTIVETLS: there is, and some exports may want it (`nbd.exports.Refused.TLS_REQUIRED`)."""
    REQUIRED = auto()
    """FORCEDTLS: nothing is told or served without it."""


@dataclass(frozen=True, slots=True)
class ExportInfo:
    """What a session has to know of the export that was opened."""

    size_bytes: int
    writable: bool = False
    description: str = ""
    """For people (NBD_INFO_DESCRIPTION); empty: there is none."""
    fast_zero: bool = False
    """Whether having a range read as zeros costs less than writing them."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send these bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class OpenExport:
    """Find and open an export, then call `export_opened` or `export_refused`.

    `keep` is false when the client only wants to know about it (INFO): it can be closed at once.
    """

    name: str
    keep: bool


@dataclass(frozen=True, slots=True)
class ListExports:
    """Find out which exports this client may see, then call `exports_listed`."""


@dataclass(frozen=True, slots=True)
class StartTls:
    """Send all that came before, make the TLS handshake, then call `secured`; close if it fails.

    What is received from now on is the handshake's: none of it goes to `receive`.
    """


@dataclass(frozen=True, slots=True)
class Close:
    """Finish what came before, then close. `reason` is what the client did wrong; None if it said goodbye."""

    reason: str | None


@dataclass(frozen=True, slots=True)
class Read:
    """Send `length` bytes of the export from `offset` (NBD_CMD_READ)."""

    cookie: int
    offset: int
    length: int
    whole: bool
    """The reply must not be cut into chunks (NBD_CMD_FLAG_DF)."""


@dataclass(frozen=True, slots=True)
class Cache:
    """Bring this range into memory (NBD_CMD_CACHE)."""

    cookie: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Write:
    """Write this piece of a NBD_CMD_WRITE. Answer after the last one, with the first error of all pieces.

    Pieces of one command come in order, and no other command's pieces are between them.
    """

    cookie: int
    offset: int
    """Of this piece."""
    data: bytes
    last: bool
    fua: bool
    """The whole command must be on stable storage before its answer leaves."""
    start: int
    """The offset of the command, for its reply."""


@dataclass(frozen=True, slots=True)
class Flush:
    """Have all writes that were answered on stable storage before this is (NBD_CMD_FLUSH)."""

    cookie: int
    offset: int = 0
    """Means nothing; it is for the reply."""


@dataclass(frozen=True, slots=True)
class Trim:
    """Forget what is in this range (NBD_CMD_TRIM)."""

    cookie: int
    offset: int
    length: int
    fua: bool


@dataclass(frozen=True, slots=True)
class WriteZeroes:
    """Have this range read as zeros (NBD_CMD_WRITE_ZEROES)."""

    cookie: int
    offset: int
    length: int
    no_hole: bool
    """Keep space for it, so that later writes do not fail for want of it."""
    fast: bool
    """Fail with ENOTSUP rather than be as slow as a write; asked only of exports with `fast_zero`."""
    fua: bool


@dataclass(frozen=True, slots=True)
class BlockStatus:
    """Tell what this range consists of (NBD_CMD_BLOCK_STATUS); `nbd.replies.Replies.block_status` is its answer."""

    cookie: int
    offset: int
    length: int
    req_one: bool
    """One extent is enough, and it must not go past the range."""
    contexts: tuple[int, ...]
    """The ids of the metadata contexts that the client has chosen."""


Command = Read | Cache | Write | Flush | Trim | WriteZeroes | BlockStatus
Action = Send | OpenExport | ListExports | StartTls | Close | Command
