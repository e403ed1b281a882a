"""Leases on disk: a text file that only grows, one line for a record, the newest line of an address wins.

    pxeboot leases 1
    10.77.0.99 52:54:00:12:34:56 bound 1790000000 5d8a01c3

The last word is the CRC-32 of what stands before it. A line counts when it ends with a newline and its CRC is right:
so a line that a crash cut short, or that a disk spoiled, is skipped and never misread. When most lines are out of
date the file is written anew and swapped whole.
"""

import fcntl
import os
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from zlib import crc32

from config.durable import replace_file
from dhcp.leases import Lease, State

HEADER = b"pxeboot leases 1\n"
_MODE = 0o640
_FEW_LINES = 1000
_FEW_BAD = 10


class JournalError(OSError):
    """The lease file cannot be used; the text names it and says why."""


class Journal:
    """The lease file, open for appending. Every method may block on the disk; one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Read the file, or begin one. Its folder is made if need be.

        Raises `JournalError` if another process has it, if it is of another version or mostly unreadable, and
        `OSError`.
        """
        self.path = path
        self.skipped = 0
        """How many lines were unreadable when the file was read, a last one that was cut short included."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(path.with_name(path.name + ".lock"))
        self._fd = -1
        self._lines = 0
        self._stored: dict[IPv4Address, Lease] = {}
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    @property
    def leases(self) -> tuple[Lease, ...]:
        """Every record that is on disk."""
        return tuple(self._stored.values())

    def holds(self, lease: Lease) -> bool:
        """Return whether this very record is on disk."""
        return self._stored.get(lease.address) == lease

    def append(self, leases: Iterable[Lease]) -> None:
        """Put records on disk; when this returns, they survive a power cut.

        Raises `OSError`; then none of them counts as stored. The file is written anew at the next call, because
        nobody knows what a failed write or fsync left behind.
        """
        new = {lease.address: lease for lease in leases}
        if self._fd < 0 or self._lines > _FEW_LINES + 4 * len(self._stored):
            self._rewrite(self._stored | new)
            return
        data = b"".join(map(encode, new.values()))
        try:
            _write(self._fd, data)
            os.fdatasync(self._fd)
        except OSError:
            self._close_file()
            raise
        self._lines += len(new)
        self._stored |= new

    def replace(self, leases: Iterable[Lease]) -> None:
        """Make these the only records. Raises `OSError`; the old file is then still there."""
        self._rewrite({lease.address: lease for lease in leases})

    def close(self) -> None:
        """Let another process have the file."""
        self._close_file()
        os.close(self._lock)

    def _load(self) -> None:
        data = self.path.read_bytes() if self.path.exists() else b""
        complete = data[: data.rfind(b"\n") + 1]
        lines = complete.splitlines(keepends=True)
        if data and not data.startswith(HEADER) and not HEADER.startswith(data):
            raise JournalError(f"{self.path}: not a lease file of this version (it should begin {HEADER.decode()!r})")
        for line in lines[1:]:
            lease = decode(line)
            if lease is None:
                self.skipped += 1
            else:
                self._stored[lease.address] = lease
        self._lines = max(0, len(lines) - 1)
        if self.skipped > _FEW_BAD and self.skipped > self._lines / 2:
            raise JournalError(
                f"{self.path}: {self.skipped} of {self._lines} lines are unreadable; "
                "restore it, or move it away to begin with no leases"
            )
        if complete != data or self.skipped or not data or self._lines > 2 * len(self._stored):
            self.skipped += complete != data
            self._rewrite(self._stored)
        else:
            self._open_file()

    def _rewrite(self, stored: dict[IPv4Address, Lease]) -> None:
        self._close_file()
        replace_file(self.path, HEADER + b"".join(map(encode, stored.values())), _MODE)
        self._stored, self._lines = dict(stored), len(stored)
        self._open_file()

    def _open_file(self) -> None:
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def _close_file(self) -> None:
        if self._fd >= 0:
            with suppress(OSError):
                os.close(self._fd)
        self._fd = -1


def encode(lease: Lease) -> bytes:
    """Return a record's line."""
    text = f"{lease.address} {lease.mac} {lease.state} {lease.expires}".encode("ascii")
    return b"%s %08x\n" % (text, crc32(text))


def decode(line: bytes) -> Lease | None:
    """Return a line's record, None if it is no line of ours."""
    text, _, check = line.rpartition(b" ")
    words = text.split(b" ")
    if len(words) != 4 or check != b"%08x\n" % crc32(text):
        return None
    try:
        address, mac, state, expires = (word.decode("ascii") for word in words)
        return Lease(IPv4Address(address), mac, int(expires), State(state))
    except ValueError:
        return None


def _lock(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise JournalError(f"{path}: another process keeps its leases here") from None
    return fd


def _write(fd: int, data: bytes) -> None:
    """Write all of `data`: a disk that fills up takes a part, and only the next write says why."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
