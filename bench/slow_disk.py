"""A disk that does only so many reads a second, for some processes: the kernel's own limit, by a control group.

It is for them alone, and gone with the group. Where there is no controller for it, there is no slow disk.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Limits:
    """Where control groups that limit a disk are made."""

    parent: Path
    file: str
    """Of a group, in which the limit stands."""
    line: str
    """What is written to it, with {device} and {reads}."""


def find(mounts: str, controllers: Callable[[Path], str]) -> Limits | None:
    """Return where groups can be made, by /proc/mounts; `controllers` reads those that a tree gives its groups.

    The unified tree (v2) counts only if it already gives `io` to its groups: nothing of the host is changed for this.
    """
    lines = [line.split() for line in mounts.splitlines()]
    for _device, place, kind, options, *_ in lines:
        if kind == "cgroup" and "blkio" in options.split(","):
            return Limits(Path(place), "blkio.throttle.read_iops_device", "{device} {reads}")
    for _device, place, kind, *_ in lines:
        if kind == "cgroup2" and "io" in controllers(Path(place)).split():
            return Limits(Path(place), "io.max", "{device} riops={reads}")
    return None


def disk_of(file: Path) -> str | None:
    """Return the disk that a file is on, as MAJOR:MINOR; None if its file system is on no single one."""
    number = file.stat().st_dev
    there = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if not there.exists():
        return None
    disk = there.resolve().parent if (there / "partition").exists() else there
    return (disk / "dev").read_text().strip()


@contextmanager
def slow_disk(file: Path, reads_per_s: int) -> Iterator[Callable[[Iterable[int]], None] | None]:
    """Make a group whose processes read so often a second from the disk of `file`; it is empty when this ends.

    Yields what puts processes into it, with all that they start later; None if there is no such limit here.
    """
    limits = find(Path("/proc/mounts").read_text(), lambda place: (place / "cgroup.subtree_control").read_text())
    disk = disk_of(file)
    if limits is None or disk is None:
        yield None
        return
    group = limits.parent / f"pxeboot-bench-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:  # a tree that is read-only, as in a container
        yield None
        return
    try:
        (group / limits.file).write_text(limits.line.format(device=disk, reads=reads_per_s))

        def put(pids: Iterable[int]) -> None:
            for pid in pids:
                with suppress(ProcessLookupError):  # ended since it was listed
                    (group / "cgroup.procs").write_text(str(pid))

        yield put
    finally:
        group.rmdir()
