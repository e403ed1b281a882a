"""The clock, the disk and the limits of this host, as far as booting machines needs them."""

import os
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from config.model import Farm
from pxeboot.selftest.findings import Finding, Level

PROC = Path("/proc")
TIMESYNC = Path("/run/systemd/timesync/synchronized")
BUILT_S = datetime(2025, 1, 1, tzinfo=UTC).timestamp()
"""No clock that is set is before this: we were not there yet."""

_ADJTIMEX_STATUS = 40
"""Where `status` is in a struct timex of 64 bits (<linux/timex.h>)."""
_STA_UNSYNC = 0x40
LEAST_FREE = 64 << 20
NONE_FREE = 1 << 20
"""Bytes that the state folder should have room for, and has to."""
LEAST_FILES = 100
_NET_BIND_SERVICE, _NET_ADMIN, _NET_RAW = 10, 12, 13
_PER_MACHINE = 3
"""Descriptors that a machine takes that fetches something."""


@dataclass(frozen=True, slots=True)
class Clock:
    """What the host's clock says of itself."""

    now_s: float
    """Seconds since 1970."""
    synchronised: bool | None
    """Whether something keeps it right; None if that cannot be read."""


def clock(proc: Path = PROC) -> Clock:
    """Read the clock, and whether the kernel was told that it is right.

    Where system calls are filtered that is not asked: the filter may end a process that asks.
    """
    synchronised: bool | None = TIMESYNC.exists() or None
    if not synchronised and _status(proc, "Seccomp") == "0":
        synchronised = _kernel_says()
    return Clock(time.time(), synchronised)


def _kernel_says() -> bool | None:
    """Return whether the kernel takes its clock for right (adjtimex(2)); None if that cannot be asked."""
    import ctypes  # late: it costs 5 ms

    if ctypes.sizeof(ctypes.c_long) != 8:
        return None
    timex = ctypes.create_string_buffer(256)  # `modes` 0: only read
    try:
        if ctypes.CDLL(None).adjtimex(timex) < 0:
            return None
    except (OSError, AttributeError):  # no such call in this C library
        return None
    status = int.from_bytes(timex.raw[_ADJTIMEX_STATUS : _ADJTIMEX_STATUS + 4], "little")
    return not status & _STA_UNSYNC


def look_clock(farm: Farm, clock: Clock) -> list[Finding]:
    """Return what is wrong with the clock: tokens and certificates are judged by it."""
    if clock.now_s < BUILT_S:
        said = datetime.fromtimestamp(clock.now_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
        what = f"the clock was not set: it says {said}, before this pxeboot was made"
        return [Finding("error", "clock", what, "set it, and have it kept (systemd-timesyncd, chrony)")]
    if clock.synchronised is not False:
        return []
    what = "nothing keeps this host's clock right (the kernel says that it is not synchronised)"
    if not any(cluster.per_boot for cluster in farm.clusters.values()):
        return [Finding("note", "clock", what)]
    return [Finding("warning", "clock", f"{what}, and join tokens are judged by it",
                    "systemctl enable --now systemd-timesyncd, or chrony")]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Disk:
    """The file system of a folder."""

    free: int
    """Bytes that we may still write."""
    size: int
    read_only: bool
    kind: str
    """Such as ext4 or tmpfs; "" if unknown."""
    files_left: int | None = None
    """Files that may still be made; None where there is no such limit."""


def disk(folder: Path, proc: Path = PROC) -> Disk | None:
    """Return what a folder, or the nearest one above it that exists, lies on; None if that cannot be read."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        facts = os.statvfs(folder)
        real = os.path.realpath(folder)
        mounts = (proc / "self/mountinfo").read_text().splitlines()
    except OSError:
        return None
    kind, longest = "", -1
    for line in mounts:
        left, _, right = line.partition(" - ")
        where = left.split()[4]
        inside = real == where or real.startswith(where.rstrip("/") + "/")
        if inside and len(where) >= longest:
            kind, longest = right.split()[0], len(where)
    left_files = facts.f_favail if facts.f_files else None
    read_only = bool(facts.f_flag & os.ST_RDONLY)
    return Disk(facts.f_bavail * facts.f_frsize, facts.f_blocks * facts.f_frsize, read_only, kind, left_files)


def look_state(folder: Path, disk: Disk | None) -> list[Finding]:
    """Return what is wrong with where leases and boots are kept."""
    about = "state folder"
    if disk is None:
        return []
    if disk.read_only:
        return [Finding("error", about, f"{folder} is on a file system that is read-only: no lease can be kept",
                        "mount it writable, or set server.state")]  # fmt: skip
    out = []
    if disk.free < LEAST_FREE:
        level: Level = "error" if disk.free < NONE_FREE else "warning"
        room = f"{folder} has room for {disk.free >> 20} MiB more; without room no lease is given"
        out.append(Finding(level, about, room, "make room there"))
    elif disk.files_left is not None and disk.files_left < LEAST_FILES:
        what = f"{folder} has room for {disk.files_left} files more (inodes)"
        out.append(Finding("error", about, f"{what}; without room no lease is given", "remove some files there"))
    if disk.kind in ("tmpfs", "ramfs"):
        out.append(
            Finding(
                "warning",
                about,
                f"{folder} is in memory ({disk.kind}): after a restart of this host, leases of pools are forgotten",
                "set server.state to a folder on a disk",
            )
        )
    return out


def look_limits(farm: Farm, hard: int) -> list[Finding]:
    """Return whether so many open files are too few for the farm."""
    machines = sum(len(pool.nodes) for pool in farm.pools)
    needed = max(1024, min(65536, 256 + _PER_MACHINE * machines))
    if 0 <= hard < needed:
        return [Finding("warning", "open files", f"this process may open {hard} files, and the farm's {machines}"
                        f" machines may need {needed} at once", f"LimitNOFILE={needed} in its unit, or `ulimit -n"
                        f" {needed}`")]  # fmt: skip
    return []


def open_files() -> int:
    """Return how many files this process may open at most; -1 for any number."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def capabilities(proc: Path = PROC) -> int | None:
    """Return the capabilities that this process has, a bit each; None if they cannot be read."""
    try:
        return int(_status(proc, "CapEff"), 16)
    except ValueError:
        return None


def may_list_rules(has: int | None) -> bool:
    """Return whether a process with these capabilities may list the rules of nftables."""
    return has is not None and bool(has >> _NET_ADMIN & 1)


def _status(proc: Path, field: str) -> str:
    """Return what proc(5) says of this process; "" if nothing."""
    try:
        lines = (proc / "self/status").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(f"{field}:")), "")


def unprivileged_from(proc: Path = PROC) -> int:
    """Return the first port that takes no capability."""
    try:
        return int((proc / "sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except (OSError, ValueError):
        return 1024


def look_capabilities(has: int | None, first_port: int) -> list[Finding]:
    """Return which capability we lack."""
    if has is None:
        return []
    needed = {"CAP_NET_RAW": (_NET_RAW, "answers to machines that have no address yet")}
    if first_port > 67:
        needed["CAP_NET_BIND_SERVICE"] = (_NET_BIND_SERVICE, "the ports 67, 69 and 80")
    return [
        Finding(
            "error",
            "capabilities",
            f"{name} is missing, which {what} take",
            f"run as root, or with AmbientCapabilities={name}",
        )
        for name, (bit, what) in needed.items()
        if not has >> bit & 1
    ]


def look_kernel(farm: Farm, own: frozenset[str], interfaces: list[str], proc: Path = PROC) -> Iterator[Finding]:
    """Tell of settings of the kernel that are in the way. `own` are this host's addresses."""
    told = {str(router) for subnet in farm.dhcp.subnets for router in subnet.routers or farm.dhcp.routers or ()}
    if told & own and _number(proc / "sys/net/ipv4/ip_forward") == 0:
        yield Finding("warning", "forwarding", f"machines are told that {', '.join(sorted(told & own))} is their"
                      " router, which is this host, and it forwards nothing", "sysctl -w net.ipv4.ip_forward=1, or"
                      " name another router")  # fmt: skip
    conf = proc / "sys/net/ipv4/conf"
    for name in interfaces:
        strict = max(_number(conf / part / "rp_filter") or 0 for part in (name, "all")) == 1
        relayed = [subnet for subnet in farm.dhcp.subnets if subnet.next_server is not None]
        if strict and relayed:
            yield Finding("note", f"rp_filter of {name}", f"{name} drops packets whose answer would leave elsewhere"
                          " (rp_filter 1), those of machines behind relays among them", f"sysctl -w"
                          f" net.ipv4.conf.{name}.rp_filter=2 if they are not answered")  # fmt: skip


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
