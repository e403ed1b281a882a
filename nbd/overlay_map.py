"""Which blocks of a disk are changed, on disk: a file that only grows, and is written anew when it has grown long.

A record is written after the bytes of its blocks, and a record COMMIT when everything up to a place, bytes and
records, is on stable storage (`nbd.overlay_format`).

Who is killed leaves what it wrote in the kernel's memory, so whoever starts after it believes every record: what a
client was told of is there, flushed or not. That matters, because the machine is still running and will not write it
again. After a power cut, which another `boot_id` tells, the disk may have kept a record and not its bytes; then only
what a COMMIT covers is believed, and what was written after the last flush is as if it had not been.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from errno import EIO
from pathlib import Path
from threading import Lock

from nbd.overlay_files import Files
from nbd.overlay_format import COMMIT, KEEP, KEEPS, RECORD, About, Damaged, Found, Keep, head, read, record

TIDY_RECORDS = 1 << 16
"""So many records make the next flush write the file anew: 1.5 MiB."""
FLUSH_RECORDS = 1 << 18
"""So many records that no flush has covered make us flush: 6 MiB."""
_SECTOR = 512
_MOST_BYTES = 1 << 30
"""No such file is longer; what is, is not ours."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a flush goes."""

    position: int
    states: bytes | None
    """The states at that position, if the file is to be written anew."""


class Map:
    """The file, open. `append` and `mark` are called while no other write runs, `flush` at any time, one at a time."""

    def __init__(self, files: Files, path: Path, about: About) -> None:
        """Use `create` or `load`."""
        self.path = path
        self.about = about
        self._files = files
        self._lock = Lock()  # between `append` and `flush`
        self._fd = -1
        self._seed = 0  # differs from file to file
        self._begin = self._position = self._committed = 0
        self._tidy_at = TIDY_RECORDS

    @classmethod
    def create(cls, files: Files, path: Path, about: About, states: bytes) -> "Map":
        """Begin one, durably, in place of one that may be there. Raises `OSError`."""
        new = cls(files, path, about)
        new._anew(states)
        try:
            files.rename(_beside(path), path)
            files.sync_folder(path.parent)
        except OSError:
            new.close()
            raise
        return new

    @classmethod
    def load(cls, files: Files, path: Path) -> "tuple[Map, Found] | None":
        """Return the one that is there, and what it says; None if there is none.

        Raises `Damaged` if it cannot be trusted, and `OSError`.
        """
        found = look(files, path)
        if found is None:
            return None
        if found.flushed:  # what a power cut left at its end is of no use, and this is another boot
            return cls.create(files, path, found.about, bytes(found.states)), found
        same = cls(files, path, found.about)
        same._fd = files.open(path)
        same._begin = same._committed = found.begin
        same._position, same._seed = found.end, found.seed
        try:
            files.truncate(same._fd, found.end)
            files.sync_folder(path.parent)  # it may have been killed between a rename and this
        except OSError:
            same.close()
            raise
        return same, found

    @property
    def overdue(self) -> bool:
        """Whether there are many records that no flush has covered."""
        return self._position - self._committed > FLUSH_RECORDS * RECORD.size

    def append(self, first: int, count: int, kind: int) -> None:
        """Write a record. Raises `OSError`; then it is as if it had not been tried."""
        with self._lock:
            self._append(first, count, kind)

    def keep(self, keep: Keep) -> None:
        """Remember another rule for when the disk is dropped. Raises `OSError`."""
        if keep != self.about.keep:
            self.append(KEEPS.index(keep), 0, KEEP)
            self.about = replace(self.about, keep=keep)

    def mark(self, states: bytearray) -> Mark:
        """Return where we are, for `flush`."""
        long = self._position - self._begin > self._tidy_at * RECORD.size
        return Mark(self._position, bytes(states) if long else None)

    def flush(self, mark: Mark) -> None:
        """Put the records up to a mark on stable storage, where the bytes of their blocks are. Raises `OSError`."""
        if mark.states is not None and self._tidied(mark.position, mark.states):
            return
        if mark.position == self._committed:
            return
        # A disk writes sectors in any order: the COMMIT must not get there before what it covers.
        with self._lock:
            together = self._committed // _SECTOR == (self._position + RECORD.size - 1) // _SECTOR
            covered = self._commit(mark.position) if together else 0
        if not together:
            self._files.sync(self._fd)
            with self._lock:
                covered = self._commit(mark.position)
        self._files.sync(self._fd)
        self._committed = covered

    def close(self) -> None:
        """Give the file back."""
        if self._fd >= 0:
            self._files.close(self._fd)
        self._fd = -1

    def _commit(self, position: int) -> int:
        """Write a COMMIT; return where the first record is, or will be, that it does not cover.

        That of the COMMIT itself need not be covered: what writes to changed blocks only makes no record, and its
        flush then has nothing to do here.
        """
        nothing_since = self._position == position
        self._append(position, 0, COMMIT)
        return self._position if nothing_since else position

    def _append(self, first: int, count: int, kind: int) -> None:
        self._files.pwrite(self._fd, [record(first, count, kind, self._position, self._seed)], self._position)
        self._position += RECORD.size

    def _tidied(self, position: int, states: bytes) -> bool:
        """Write the file anew; return False if that was not possible and the old one is still in use."""
        new = Map(self._files, self.path, self.about)
        try:
            new._anew(states)
        except OSError:  # such as ENOSPC
            self._tidy_at *= 2
            return False
        with self._lock:
            try:
                tail = bytearray(self._position - position)
                self._files.pread(self._fd, memoryview(tail), position)
                for first, count, kind, _crc in RECORD.iter_unpack(tail):
                    if kind != COMMIT:
                        new._append(first, count, kind)
                self._files.rename(_beside(self.path), self.path)
            except OSError:
                new.close()
                raise
            self.close()
            self._fd, self._seed, self._tidy_at = new._fd, new._seed, TIDY_RECORDS
            self._begin, self._position, self._committed = new._begin, new._position, new._begin
        self._files.sync_folder(self.path.parent)
        return True

    def _anew(self, states: bytes) -> None:
        """Write a file beside the old one, whole and on stable storage."""
        beside = _beside(self.path)
        self._files.unlink(beside)
        data, self._seed = head(self.about, self._files.boot_id(), states)
        self._fd = self._files.open(beside)
        try:
            self._files.pwrite(self._fd, [data], 0)
            self._files.sync(self._fd)
        except OSError:
            self.close()
            with suppress(OSError):
                self._files.unlink(beside)
            raise
        self._begin = self._position = self._committed = len(data)


def look(files: Files, path: Path) -> Found | None:
    """Return what a file says; None if there is none. Raises `Damaged` and `OSError`."""
    data = files.read(path, _MOST_BYTES)
    if data is None:
        return None
    if len(data) == _MOST_BYTES:
        raise Damaged(EIO, f"{path}: not a map of changed blocks: it is too long")
    return read(data, files.boot_id(), path)


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".new")
