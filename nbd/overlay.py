"""Copy-on-write disks: what each machine may write to, over an image that all of them read.

`Overlays` knows which machine has which disk, and when it is dropped: when its rules say so
(`config.exports.Writable.keep`), and at once when its machine gets another image. Whoever still has a dropped disk
open, such as a connection that a machine left behind when it was reset, gets I/O errors from then on, and never the
blocks of the new one.
"""

import logging
from collections.abc import Callable
from concurrent.futures import wait
from dataclasses import dataclass, field
from errno import EIO
from pathlib import Path
from threading import Lock, Thread
from typing import Literal

from config.content import OpenFile
from config.disks import Pool
from config.exports import Writable
from nbd.exports import FileExport
from nbd.extents import Extent
from nbd.overlay_disk import BLOCK, DATA, Disk
from nbd.overlay_files import Files
from nbd.overlay_folder import Folder
from nbd.overlay_format import About, Damaged, Keep, OverlayError
from nbd.overlay_store import InFile, InMemory

__all__ = ["Damaged", "DiskExport", "Kept", "OverlayError", "Overlays"]

_SETTLING = 16
"""So many disks are flushed at once when the server ends: a file system does that for several with one write."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of one machine's disk."""

    machine: str
    image_id: str
    """Empty if the disk is damaged."""
    where: Literal["memory", "file"]
    keep: Keep
    changed_bytes: int
    limit_bytes: int | None
    """None for one that is not in use: the next attach says."""
    connections: int


@dataclass(slots=True, eq=False)
class _Held:
    """A disk that is open: in use, or kept in memory."""

    disk: Disk
    machine: str
    image_id: str
    keep: Keep
    file: InFile | None
    """None: in memory."""
    device: int
    """`nbd.exports.Export.device`. Of those in files it is the state folder's disk, and a number that no image has:
    who only reads an image must not wait behind what others write, nor when that disk hangs."""
    users: int = 0
    base_open: bool = True
    freed: bool = False

    @property
    def is_over(self) -> bool:
        """Whether nobody is to have it any more."""
        return self.disk.dropped or (self.keep == "connection" and not self.users)


@dataclass(slots=True)
class _Machine:
    """One machine. The lock is held, for as long as a disk takes, by whoever opens or drops its disk."""

    lock: Lock = field(default_factory=Lock)
    held: _Held | None = None


class DiskExport:
    """One connection's way to its machine's disk (`nbd.exports.Export`)."""

    def __init__(self, name: str, held: _Held, closed: Callable[[], None]) -> None:
        disk = held.disk
        self.name = name
        self.description = f"the disk of {held.machine}"
        self.size_bytes = disk.size_bytes
        self.writable = True
        self.fd: int | None = None
        self.file_bytes = 0
        self.device = held.device
        self.intact = disk.intact
        self.read_warm = disk.read_warm
        self.read = disk.read
        self.write = disk.write
        self.write_zeroes = disk.write_zeroes
        self.trim = disk.trim
        self.flush = disk.flush
        self.prefetch = disk.prefetch
        self.extents: Callable[[int, int, int], list[Extent]] = disk.extents
        self._closed: Callable[[], None] | None = closed

    def window(self, offset: int, length: int) -> memoryview | None:
        """Return none: its blocks lie in several places."""
        return None

    def close(self) -> None:
        """Let go of it. Waits for no disk: what is to be freed is freed by a thread."""
        closed, self._closed = self._closed, None
        if closed is not None:
            closed()


class Overlays:
    """Every machine's disk. Methods may wait for a disk, or for a process that has it; safe in several threads."""

    def __init__(self, folder: Path, files: Files | None = None) -> None:
        """`folder` is made when the first disk goes there; nobody else can look into it."""
        self._files = files or Files()
        self._folder = Folder(folder, self._files)
        self._lock = Lock()  # of what follows, and of every `_Held.users`; never held while a disk is waited for
        self._machines: dict[str, _Machine] = {}

    def attach(
        self,
        machine: str,
        image_id: str,
        base: OpenFile,
        rules: Writable,
        name: str,
        closed: Callable[[], None] | None = None,
    ) -> DiskExport:
        """Return a connection's way to the machine's disk: the one it has, or a new one over `base`.

        All connections of a machine have the same disk. `base` is closed when it is no more needed, also if this
        fails. `closed` is called once, when the export is closed. What exists stays where it is when `rules.where`
        has changed; its limit changes. Raises `OverlayError` if the disk is damaged, or was in the memory of a server
        that ended (both until the machine boots again), or is in use by another process; and `OSError`.
        """
        try:
            below = FileExport(name, base)
        except OSError:
            base.close()
            raise
        taken = False
        try:
            record = self._machine(machine)
            with record.lock:
                held = record.held
                if held is not None and (
                    held.is_over or (held.image_id, held.disk.size_bytes) != (image_id, below.size_bytes)
                ):
                    self._drop(record, held)
                    held = None
                if held is None:
                    held, taken = self._open(machine, image_id, below, rules), True
                elif held.keep != rules.keep:
                    if held.file is not None:
                        held.file.keep(rules.keep)
                    held.keep = rules.keep
                held.disk.limit_bytes = rules.limit_mib << 20
                with self._lock:
                    if not held.base_open:
                        held.disk.base, held.base_open, taken = below, True, True
                    held.users += 1
                    record.held = held
        finally:
            if not taken:
                below.close()

        def release() -> None:
            self._release(held)
            if closed is not None:
                closed()

        return DiskExport(name, held, release)

    def booting(self, machine: str) -> None:
        """Drop what is kept until the machine boots, which it does now; a damaged disk is moved aside.

        Raises `OSError`.
        """
        record = self._machine(machine)
        with record.lock:
            if record.held is not None:
                if record.held.keep != "always":
                    self._drop(record, record.held)
                return
            try:
                found = self._folder.look(machine)
                if found is None or found.about.keep != "always":
                    self._folder.remove(machine)
            except Damaged as error:
                log.warning("nbd: the disk of %s is damaged and was set aside: %s", machine, error)
                self._folder.set_aside(machine)

    def forget(self, machine: str) -> None:
        """Drop the disk of a machine that there is no more, whatever its rules say. Raises `OSError`."""
        record = self._machine(machine)
        with record.lock:
            if record.held is not None:
                self._drop(record, record.held)
            else:
                self._folder.remove(machine)

    def settle(self, patience_s: float) -> None:
        """Put what machines wrote on stable storage, as this server ends. Waits no longer than `patience_s` seconds.

        Their clients may go on with the next server, and that after a start of this computer: it then believes only
        what was flushed (`nbd.overlay_map`), however orderly the end was.
        """
        with self._lock:
            records = [record for record in self._machines.values() if record.held is not None]
        threads = Pool(_SETTLING, "nbd settle")
        settled = [threads.submit(self._settle, record) for record in records]
        threads.shutdown(wait=False)
        _, late = wait(settled, patience_s)
        if late:
            log.warning("nbd: %d machines' disks were not flushed within %.1f s", len(late), patience_s)

    def _settle(self, record: _Machine) -> None:
        with record.lock:
            if record.held is not None:
                self._flush(record.held)

    def _flush(self, held: _Held) -> None:
        """Flush one that stays, and so has a file. The machine's lock is held."""
        if held.file is None or held.is_over:
            return
        try:
            held.disk.flush()
        except OSError as error:
            log.warning("nbd: the disk of %s could not be flushed: %s", held.machine, error)

    def machines(self) -> list[Kept]:
        """Return what is kept, in use or not, by the names of the machines. Raises `OSError`."""
        kept: dict[str, Kept] = {}
        with self._lock:
            for record in self._machines.values():
                if record.held is not None:
                    kept[record.held.machine] = _describe(record.held)
        for machine in self._folder.machines():
            if machine in kept:
                continue
            try:
                found = self._folder.look(machine)
            except Damaged:
                kept[machine] = Kept(machine, "", "file", "boot", 0, None, 0)
                continue
            if found is not None:
                changed = found.states.count(DATA) * BLOCK
                kept[machine] = Kept(machine, found.about.image_id, "file", found.about.keep, changed, None, 0)
        return [kept[machine] for machine in sorted(kept)]

    def _machine(self, machine: str) -> _Machine:
        with self._lock:
            return self._machines.setdefault(machine, _Machine())

    def _open(self, machine: str, image_id: str, below: FileExport, rules: Writable) -> _Held:
        """Open the disk that is kept, or make one. The machine's lock is held."""
        about = About(machine, image_id, below.size_bytes, rules.keep)
        limit = rules.limit_mib << 20
        opened = self._folder.open(about)
        if opened is not None:
            file, states, flushed = opened
            return self._in_file(Disk(below, file, states, limit, flushed=flushed), about, file)
        if self._folder.is_lost(machine):
            # Over what it still has in its own memory of the old disk, a new one would be a mixture of the two.
            raise OverlayError(
                EIO, f"what {machine} wrote was in the memory of a server that ended; it has to boot again"
            )
        states = bytearray(about.size_bytes // BLOCK)
        if rules.where == "file":
            file = self._folder.make(about)
            return self._in_file(Disk(below, file, states, limit), about, file)
        memory = InMemory(self._files, machine, about.size_bytes, lambda: self._began(machine, rules.keep))
        return _Held(Disk(below, memory, states, limit), machine, image_id, rules.keep, None, below.device)

    def _in_file(self, disk: Disk, about: About, file: InFile) -> _Held:
        return _Held(disk, about.machine, about.image_id, about.keep, file, -1 - file.device)

    def _began(self, machine: str, keep: Keep) -> None:
        """A machine writes to a disk that is in memory for the first time."""
        if keep == "connection":
            return
        try:
            self._folder.in_memory(machine)
        except OSError as error:
            log.warning("nbd: should this server end, nobody will know that it had a disk of %s: %s", machine, error)

    def _drop(self, record: _Machine, held: _Held) -> None:
        """Let a disk be its machine's no more. The machine's lock is held."""
        with self._lock:
            held.disk.dropped = True
            record.held = None
            unused = not held.users
        if unused:
            self._free(held)
        self._folder.remove(held.machine)

    def _release(self, held: _Held) -> None:
        """Let one connection go; what is to be done after the last one may wait for a disk, so a thread does it."""
        with self._lock:
            held.users -= 1
            if held.users:
                return
        try:
            Thread(target=self._put_away, args=(held,), name="nbd overlay", daemon=True).start()
        except RuntimeError as error:  # no more threads; it stays as it is until its machine comes back, or boots
            log.warning("nbd: the disk of %s stays open: %s", held.machine, error)

    def _put_away(self, held: _Held) -> None:
        """Close what a disk without connections does not need, unless it has one again."""
        record = self._machine(held.machine)
        with record.lock:
            with self._lock:
                if held.users or held.freed:
                    return
            try:
                if held.is_over:
                    if record.held is held:
                        self._drop(record, held)
                    else:
                        self._free(held)
                elif held.file is not None:
                    self._flush(held)
                    record.held = None
                    self._free(held)
                elif held.base_open:
                    held.base_open = False
                    held.disk.base.close()
            except OSError as error:
                log.warning("nbd: the disk of %s could not be put away: %s", held.machine, error)

    def _free(self, held: _Held) -> None:
        if not held.freed:
            held.freed = True
            held.disk.close()
            if held.base_open:
                held.disk.base.close()


def _describe(held: _Held) -> Kept:
    where: Literal["memory", "file"] = "memory" if held.file is None else "file"
    changed, limit = held.disk.changed_bytes, held.disk.limit_bytes
    return Kept(held.machine, held.image_id, where, held.keep, changed, limit, held.users)
