"""The folder of machines' disks: two files for each, which are opened, made and removed together.

    MACHINE.disk   its changed blocks, a sparse file, locked by the process that serves it
    MACHINE.map    which blocks those are (`nbd.overlay_map`)
    MACHINE.lost   its changed blocks are in a server's memory, or were until that server ended

A map is made after its disk and removed before it, so a disk without a map holds nothing that anybody was told of.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from errno import EBUSY, EIO
from pathlib import Path
from urllib.parse import quote, unquote

from nbd.overlay_disk import BLOCK
from nbd.overlay_files import Files
from nbd.overlay_format import About, Damaged, Found, OverlayError
from nbd.overlay_map import Map, look
from nbd.overlay_store import InFile

WAIT_S = 5.0
"""How long to wait for another process to let go of a disk: the one that we take over from stops within this."""
_DISK, _MAP, _LOST = ".disk", ".map", ".lost"

log = logging.getLogger(__name__)


class Folder:
    """What is in it. Every method may block on the disk, and raises `OSError`; for each machine, one at a time."""

    def __init__(self, path: Path, files: Files) -> None:
        """`path` is made when the first disk goes there; nobody else can look into it."""
        self._path = path
        self._files = files

    def machines(self) -> Iterator[str]:
        """Yield the names of those that have a disk here."""
        for name in sorted(self._files.names(self._path)):
            if name.endswith(_MAP):
                yield unquote(name.removesuffix(_MAP))

    def look(self, machine: str) -> Found | None:
        """Return what is known of a machine's disk; None if it has none. Raises `Damaged`."""
        found, disk = look(self._files, self._file(machine, _MAP)), self._file(machine, _DISK)
        if found is not None and self._files.length(disk) != found.about.size_bytes:
            raise Damaged(EIO, f"{disk}: not as long as its map says")
        return found

    def open(self, about: About) -> tuple[InFile, bytearray, bool] | None:
        """Return the disk that is there, its blocks' states, and whether they are on stable storage.

        None if there is none: one of another image, or one that its rules do not keep, is removed. Raises `Damaged`,
        and `OverlayError` if another process has it.
        """
        if self.look(about.machine) is None:
            return None
        fd = self._take(about.machine)
        blocks: Map | None = None
        try:
            loaded = Map.load(self._files, self._file(about.machine, _MAP))
            if loaded is not None:
                blocks, found = loaded
                kept = found.about.keep != "connection"
                if kept and (found.about.image_id, found.about.size_bytes) == (about.image_id, about.size_bytes):
                    blocks.keep(about.keep)
                    return InFile(self._files, fd, blocks), found.states, found.flushed
                self.remove(about.machine)
            self._close(fd, blocks)
        except BaseException:
            self._close(fd, blocks)
            raise
        return None

    def make(self, about: About) -> InFile:
        """Make a disk of which nothing is changed. One that is not kept has no name: it ends with us, in any case."""
        self._files.folder(self._path)
        fd = self._take(about.machine)
        blocks: Map | None = None
        try:
            self._files.truncate(fd, 0)
            self._files.truncate(fd, about.size_bytes)
            if about.keep == "connection":
                self._files.unlink(self._file(about.machine, _DISK))
            else:
                self._files.sync(fd)
                path = self._file(about.machine, _MAP)
                blocks = Map.create(self._files, path, about, bytes(about.size_bytes // BLOCK))
        except BaseException:
            self._close(fd, blocks)
            raise
        return InFile(self._files, fd, blocks)

    def remove(self, machine: str) -> None:
        """Remove a machine's disk, durably: whoever has it open keeps it."""
        names = self._files.names(self._path)
        if any(self._file(machine, kind).name in names for kind in (_DISK, _MAP, _LOST)):
            self._files.unlink(self._file(machine, _LOST))
            self._files.unlink(self._file(machine, _MAP))
            try:
                self._files.sync_folder(self._path)
            finally:  # the next one must not be made in a file that somebody still has open
                self._files.unlink(self._file(machine, _DISK))

    def in_memory(self, machine: str) -> None:
        """Remember, durably, that a machine has begun to write to a disk that is in memory."""
        self._files.folder(self._path)
        self._files.close(self._files.open(self._file(machine, _LOST)))
        self._files.sync_folder(self._path)

    def is_lost(self, machine: str) -> bool:
        """Return whether what a machine wrote was in the memory of a server that is no more."""
        return self._files.length(self._file(machine, _LOST)) is not None

    def set_aside(self, machine: str) -> None:
        """Rename a damaged disk, for who wants to know what it was, in place of an earlier one."""
        for kind in (_MAP, _DISK):
            path = self._file(machine, kind)
            with suppress(FileNotFoundError):
                self._files.rename(path, path.with_name(path.name + ".damaged"))
        self._files.sync_folder(self._path)

    def _file(self, machine: str, kind: str) -> Path:
        return self._path / (quote(machine, safe="") + kind)

    def _take(self, machine: str) -> int:
        """Open and lock the file of blocks, which is made if it is not there."""
        path = self._file(machine, _DISK)
        until = time.monotonic() + WAIT_S
        while True:
            fd = self._files.open(path)
            try:
                if self._files.lock(fd):
                    if self._files.is_at(fd, path):
                        return fd
                elif time.monotonic() > until:
                    raise OverlayError(EBUSY, f"{path}: another process has this machine's disk")
                else:
                    time.sleep(0.02)
            except BaseException:
                self._files.close(fd)
                raise
            self._files.close(fd)

    def _close(self, fd: int, blocks: Map | None) -> None:
        self._files.close(fd)
        if blocks is not None:
            blocks.close()
