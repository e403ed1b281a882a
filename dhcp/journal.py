"""Leases on disk: a text file that only grows, one line for a record, the newest line of an address wins.

    pxeboot leases 2
    10.77.0.99 52:54:00:12:34:56 bound 1790000000 5d8a01c3
    10.77.0.98 id:01525400123457 bound never 52:54:00:12:34:57 0c39e1b8

Address, client, state, expiry, the MAC where the client is not known by it, and the CRC-32 of what stands before. A
line counts when it ends with a newline and its CRC is right: so a line that a crash cut short, or that a disk spoiled,
is skipped and never misread. `port:` or `card:` in place of a client says that it is no lease (`dhcp.grants`).
Version 1, which had neither the MAC nor `never`, is read as well.

When most lines are out of date the file is written anew beside the old one, a part at a time between two batches of
leases (`Journal.tidy`), while each batch goes to both; then it takes the old one's place. Until that moment the old
file has everything that was acknowledged, and from then on the new one.
"""

import fcntl
import gc
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import islice
from pathlib import Path
from zlib import crc32

from dhcp.disk import MODE, Files
from dhcp.leases import NEVER, Lease, State

HEADER = b"pxeboot leases 2\n"
HEADERS = (HEADER, b"pxeboot leases 1\n")
"""Of the versions that can be read."""
_FEW_LINES = 1000
_FEW_BAD = 10
_STEP = 2000
"""Lines that one step of `Journal.tidy` writes: some 150 kB, a few milliseconds with its fdatasync."""
_BREATH = 256
"""Records encoded before the event loop may have the interpreter: half a millisecond."""


class JournalError(OSError):
    """The lease file cannot be used; the text names it and says why."""


class InUse(JournalError):
    """Another process has the lease file."""


@dataclass(slots=True)
class Contents:
    """What is in a lease file."""

    lines: dict[int, bytes] = field(default_factory=dict)
    """The newest line of each address."""
    leases: list[Lease] = field(default_factory=list)
    """The records of these lines."""
    rows: int = 0
    skipped: int = 0
    """How many of the rows are unreadable."""
    torn: bool = False
    """Whether the last line was cut short."""
    size: int = 0
    """Bytes, without a torn line."""
    current: bool = True
    """Whether it is of our version."""


class Journal:
    """The lease file, open for appending. Every method may block on the disk; one thread at a time.

    Only `holds` may be called from another thread.
    """

    def __init__(self, path: Path, files: Files | None = None) -> None:
        """Read the file, or begin one. Its folder is made if need be.

        Raises `JournalError` if another process has it, if it is of another version or mostly unreadable, and
        `OSError`.
        """
        self.path = path
        self._files = files or Files()
        self._beside = path.with_name(path.name + ".new")
        self._fd = -1
        self._inode = 0
        self._copy: _Copy | None = None
        self._tidy_after = 0
        """So many rows must there be before the file is tidied again, since that failed."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(path.with_name(path.name + ".lock"))
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    def _load(self) -> None:
        found = read(self._files.read(self.path), self.path)
        self.skipped, self.torn = found.skipped, found.torn
        self._lines, self._rows, self._size = found.lines, found.rows, found.size
        self._leases: tuple[Lease, ...] | None = tuple(found.leases)
        self._spoiled = bool(found.skipped) or not found.current
        if found.skipped:
            with suppress(OSError):  # for who wants to know what it was; the next tidy leaves it out
                self._files.link(self.path, self.path.with_name(self.path.name + ".damaged"))
        self._files.unlink(self._beside)
        self._open(self._files.open(self.path))
        if found.torn:
            self._files.truncate(self._fd, self._size)
        if not self._size:
            self._files.write(self._fd, HEADER)
            self._size = len(HEADER)
        # What another process wrote before it was killed may be in memory only, and counts as stored from now on.
        self._files.sync(self._fd)
        self._files.sync_folder(self.path.parent)

    @property
    def leases(self) -> tuple[Lease, ...]:
        """Every record that is on disk."""
        if self._leases is None:
            self._leases = tuple(lease for line in self._lines.values() if (lease := decode(line)) is not None)
        return self._leases

    def holds(self, address: int, line: bytes) -> bool:
        """Return whether this very line is on disk, and the newest of its address."""
        return self._fd >= 0 and self._lines.get(address) == line

    def append(self, leases: Iterable[Lease]) -> None:
        """Put records on disk, as `write` does."""
        self.write({int(lease.address): encode(lease) for lease in leases})

    def write(self, lines: Mapping[int, bytes]) -> None:
        """Put lines on disk, each by its address; when this returns, they survive a power cut.

        Raises `OSError`; then none of them counts as stored. After a write that failed the file is cut back to what
        it was; after a sync that failed (nobody knows what that left behind), or if somebody removed the file, it is
        written anew at the next call.
        """
        if self._fd < 0 or self._files.inode(self.path) != self._inode:
            self._rewrite({**self._lines, **lines})
            return
        if not lines:
            return
        data = b"".join(lines.values())
        try:
            self._files.write(self._fd, data)
        except OSError:
            try:
                self._files.truncate(self._fd, self._size)
            except OSError:
                self._close_file()
            raise
        try:
            self._files.sync(self._fd)
        except OSError:
            self._close_file()
            raise
        self._size += len(data)
        self._rows += len(lines)
        self._lines.update(lines)
        self._leases = None
        if self._copy is not None:
            try:
                self._copy.add(data, len(lines))
            except OSError:
                self._abandon()

    def replace(self, leases: Iterable[Lease]) -> None:
        """Make these the only records. Raises `OSError`; the old file is then still there.

        Nothing counts as stored then, and the next call tries again.
        """
        lines: dict[int, bytes] = {}
        for lease in leases:
            lines[int(lease.address)] = encode(lease)
            if not len(lines) % _BREATH:
                time.sleep(0.0001)
        self._close_file()  # first: `holds` is asked meanwhile, and none of these lines is on disk yet
        self._lines, self._leases = lines, None
        self._rewrite(lines)

    def tidy(self) -> bool:
        """Do a part of writing the file anew if that is due, and return whether there is more to do.

        That is due when most rows are out of date, or some are unreadable. A disk that fails at it does no harm: it is
        tried again when the file has doubled.
        """
        if self._fd < 0 or not (self._copy or self._is_untidy):
            return False
        try:
            if self._copy is None:
                self._copy = self._begin(self._lines)
                return True
            if self._copy.step(self._lines):
                self._files.sync(self._copy.fd)
                return True
            self._swap(self._copy)
        except OSError:
            self._abandon()
        return False

    @property
    def _is_untidy(self) -> bool:
        """Whether most rows are out of date, or some are what no row of ours is."""
        return self._spoiled or self._rows > max(self._tidy_after, _FEW_LINES + 2 * len(self._lines))

    def close(self) -> None:
        """Let another process have the file."""
        self._close_file()
        os.close(self._lock)

    def _rewrite(self, lines: dict[int, bytes]) -> None:
        """Write the file anew with these lines, at once."""
        self._close_file()
        try:
            self._copy = copy = self._begin(lines)
            while copy.step(lines):
                pass
            self._swap(copy)
        except OSError:
            self._abandon()
            raise
        self._lines, self._leases = lines, None

    def _begin(self, lines: dict[int, bytes]) -> "_Copy":
        fd = self._files.create(self._beside, self.path)
        copy = _Copy(self._files, fd, list(lines))
        try:
            copy.add(HEADER, 0)
        except OSError:
            self._files.close(fd)
            raise
        return copy

    def _swap(self, copy: "_Copy") -> None:
        """Put the new file in the old one's place; from the return on, leases are appended to it.

        If only the folder cannot be synced, a power cut might bring the old file back: then neither is used.
        """
        self._files.sync(copy.fd)
        self._files.rename(self._beside, self.path)
        self._copy = None
        self._close_file()
        try:
            self._files.sync_folder(self.path.parent)
            self._open(copy.fd)
        except OSError:
            self._files.close(copy.fd)
            self._fd = -1
            raise
        self._size, self._rows = copy.size, copy.rows
        self._spoiled, self._tidy_after = False, 0

    def _abandon(self) -> None:
        """Leave the new file, and do not begin another one soon."""
        if self._copy is not None:
            self._files.close(self._copy.fd)
            self._copy = None
        with suppress(OSError):
            self._files.unlink(self._beside)
        self._spoiled, self._tidy_after = False, 2 * self._rows + _FEW_LINES

    def _open(self, fd: int) -> None:
        self._fd, self._inode = fd, self._files.inode(self.path)

    def _close_file(self) -> None:
        if self._fd >= 0:
            self._files.close(self._fd)
        self._fd = -1
        if self._copy is not None:
            self._abandon()


class _Copy:
    """The file that is going to take the old one's place: the lines of `addresses`, and what came meanwhile."""

    def __init__(self, files: Files, fd: int, addresses: list[int]) -> None:
        self.fd = fd
        self.size = 0
        self.rows = 0
        self._files = files
        self._addresses = iter(addresses)

    def step(self, lines: Mapping[int, bytes]) -> bool:
        """Write some lines, each the newest of its address; return whether there were any left."""
        some = [lines[address] for address in islice(self._addresses, _STEP)]
        if some:
            self.add(b"".join(some), len(some))
        return bool(some)

    def add(self, data: bytes, rows: int) -> None:
        """Write lines that were put on disk in the old file."""
        self._files.write(self.fd, data)
        self.size += len(data)
        self.rows += rows


_STATES: dict[str, State] = {state.value: state for state in State}
_STATE_WORDS: dict[State, bytes] = {state: state.value.encode() for state in State}
_BYTES = {str(number): number for number in range(256)}


def encode(lease: Lease) -> bytes:
    """Return a record's line."""
    a, b, c, d = lease.address.packed
    client, mac = lease.client, lease.mac
    expires = b"never" if lease.expires == NEVER else b"%d" % lease.expires
    text = b"%d.%d.%d.%d %b %b %b" % (a, b, c, d, client.encode(), _STATE_WORDS[lease.state], expires)
    if mac != client:
        text += b" " + mac.encode()
    return b"%b %08x\n" % (text, crc32(text))


def decode(line: bytes) -> Lease | None:
    """Return a line's record, None if it is no line of ours."""
    text, _, check = line.rpartition(b" ")
    return _record(text) if check == b"%08x\n" % crc32(text) else None


def _record(text: bytes) -> Lease | None:
    try:
        where, client, state, expires, *more = text.decode("ascii").split(" ")
        a, b, c, d = where.split(".")
        address = IPv4Address(_BYTES[a] << 24 | _BYTES[b] << 16 | _BYTES[c] << 8 | _BYTES[d])
        [mac] = more or (client,)
        return Lease(address, client, NEVER if expires == "never" else int(expires), _STATES[state], mac)
    except (ValueError, KeyError):
        return None


def read(data: bytes, path: Path) -> Contents:
    """Return what is in a lease file. An empty one is a new one, as is a header that a crash cut short.

    Raises `JournalError` if it is no lease file, or mostly unreadable.
    """
    if any(header.startswith(data) for header in HEADERS) and data not in HEADERS:
        return Contents(torn=bool(data))
    if not data.startswith(HEADERS):
        raise JournalError(f"{path}: not a lease file of this version (it should begin {HEADER.decode()!r})")
    size = data.rfind(b"\n") + 1
    found = Contents(torn=size < len(data), size=size, current=data.startswith(HEADER))
    with _without_collector():
        _read_lines(data[:size], found)
    if found.skipped > _FEW_BAD and found.skipped > found.rows / 2:
        raise JournalError(
            f"{path}: {found.skipped} of {found.rows} lines are unreadable; "
            "restore it, or move it away to begin with no leases"
        )
    return found


@contextmanager
def _without_collector() -> Iterator[None]:
    """Keep the garbage collector from looking through 100,000 records while they are made: a third of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _read_lines(data: bytes, found: Contents) -> None:
    newest: dict[bytes, bytes] = {}
    rows = data.splitlines(keepends=True)
    for line in islice(rows, 1, None):
        text, _, check = line.rpartition(b" ")
        if check == b"%08x\n" % crc32(text):
            newest[text[: text.find(b" ")]] = line
        else:
            found.skipped += 1
    for line in newest.values():
        lease = _record(line[:-10])
        if lease is None:
            found.skipped += 1
        else:
            found.lines[int(lease.address)] = line
            found.leases.append(lease)
    found.rows = len(rows) - 1


def _lock(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise InUse(f"{path}: another process keeps its leases here") from None
    return fd
