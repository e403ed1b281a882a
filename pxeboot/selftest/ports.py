"""Whose the ports are that we need: read from /proc, as `ss -lnp` does.

Our own sockets are bound to an interface each, which /proc does not show. So whether somebody else's socket is in our
way is tried (`is_free`); whose it is, is read.
"""

import errno
import os
import pwd
import re
import socket
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from config.model import Farm
from config.observing import parse_listen
from pxeboot.selftest.findings import Finding

PROC = Path("/proc")

Protocol = Literal["UDP", "TCP"]
_UCRED = struct.Struct("=iII")
_LISTEN = 0x0A
_UNCONNECTED = 0x07
_UNIT = re.compile(r"[^/\s]+\.(?:service|socket)$")
_SOCKET = re.compile(r"socket:\[([0-9]+)\]")
_OF_OURS = "is served by a pxeboot that runs"
_ANY = frozenset(("0.0.0.0", "::"))


@dataclass(frozen=True, slots=True)
class Wanted:
    """A port that we need."""

    protocol: Protocol
    port: int
    what: str
    """What for, such as `TFTP`."""
    host: str = "0.0.0.0"
    """The address that we need it at."""
    of_machines: bool = True
    """Whether machines come to it, on the interfaces that we serve; people come to `host`, wherever that is."""

    def __str__(self) -> str:
        return f"{self.protocol} port {self.port}"


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that waits for others."""

    address: str
    inode: int
    uid: int = 0
    """The user who made it."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that has a socket."""

    pid: int
    """0 if we may not see it; then `name` says whose it is."""
    name: str
    unit: str = ""
    """Its unit of systemd, such as dnsmasq.service."""
    pxeboot: bool = False
    """Whether it is a `pxeboot serve`."""

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid}{f', {self.unit}' if self.unit else ''})" if self.pid else self.name


@dataclass(frozen=True, slots=True)
class Daemon:
    """The `pxeboot serve` that answers at our control socket."""

    pid: int
    uid: int


def wanted(farm: Farm) -> list[Wanted]:
    """Return the ports that serving `farm` takes."""
    out = []
    if farm.dhcp.subnets:
        out += [Wanted("UDP", 67, "DHCP"), Wanted("UDP", 4011, "DHCP's boot server")]
    out += [Wanted("UDP", 69, "TFTP"), Wanted("TCP", farm.server.http_port, "HTTP")]
    if farm.http.tls is not None:
        out.append(Wanted("TCP", farm.http.tls.port, "HTTPS"))
    out.append(Wanted("TCP", farm.server.nbd_port, "NBD"))
    for listen in farm.web.listen:
        host, port = parse_listen(listen)
        out.append(Wanted("TCP", port, "the web page", host, of_machines=False))
    logs = farm.machine_logs
    for number, what in ((logs.syslog_port, "syslog"), (logs.netconsole_port, "netconsole")):
        if number is not None:
            out.append(Wanted("UDP", number, what))
    return out


def tables(proc: Path = PROC) -> dict[str, str]:
    """Return the kernel's tables of sockets, of this network namespace, by name. It takes 5 ms to read one."""
    out = {}
    for name in ("udp", "udp6", "tcp", "tcp6"):
        with suppress(OSError):
            out[name] = (proc / "self/net" / name).read_text()
    return out


def listeners(protocol: Protocol, port: int, tables: Mapping[str, str]) -> list[Listener]:
    """Return the sockets on a port."""
    state = _LISTEN if protocol == "TCP" else _UNCONNECTED
    names = (protocol.lower(), f"{protocol.lower()}6")
    return [listener for name in names for listener in _sockets(tables.get(name, ""), port, state)]


def _sockets(table: str, port: int, state: int) -> Iterator[Listener]:
    needle = f":{port:04X} "
    for line in table.splitlines()[1:]:
        if needle not in line:  # a busy host has 50,000 lines
            continue
        words = line.split()
        if len(words) < 10:
            continue
        address, _, number = words[1].partition(":")
        if int(number, 16) == port and int(words[3], 16) == state:
            yield Listener(_address(bytes.fromhex(address)), int(words[9]), int(words[7]))


def _address(words: bytes) -> str:
    """Return an address that /proc shows as 32-bit words in the order of the host, which here is little endian."""
    turned = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
    if turned[:12] == bytes(10) + b"\xff\xff":
        turned = turned[12:]
    return socket.inet_ntop(socket.AF_INET if len(turned) == 4 else socket.AF_INET6, turned)


def owners(inodes: Collection[int], proc: Path = PROC) -> dict[int, Owner]:
    """Return whose these sockets are, as far as we may see; the youngest process where several share one."""
    out: dict[int, Owner] = {}
    for folder in sorted(proc.iterdir(), key=lambda path: int(path.name) if path.name.isdigit() else 0):
        if not folder.name.isdigit():
            continue
        held: set[int] = set()
        with suppress(OSError):  # it ended, or is not ours to look at
            for fd in (folder / "fd").iterdir():
                with suppress(OSError):
                    found = _SOCKET.fullmatch(os.readlink(fd))
                    if found is not None and int(found[1]) in inodes:
                        held.add(int(found[1]))
        for inode in held:
            out[inode] = _owner(folder)
    return out


def _owner(folder: Path) -> Owner:
    name, unit, words = "a process", "", list[str]()
    with suppress(OSError):
        name = (folder / "comm").read_text().strip() or name
        for line in (folder / "cgroup").read_text().splitlines():
            found = _UNIT.search(line)
            unit = found[0] if found is not None else unit
        words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
    pxeboot = "serve" in words and any("pxeboot" in word for word in words)
    return Owner(int(folder.name), "pxeboot serve" if pxeboot else name, unit, pxeboot)


def remedy(protocol: Protocol, port: int, owner: Owner) -> str:
    """Return what to do about a port that somebody else has."""
    if not owner.pid:
        return f"as root, `ss -lnp{protocol[0].lower()} sport = :{port}` says whose it is"
    if owner.pid == 1:
        return f"`systemctl list-sockets` says for which service it listens on port {port}; disable that socket"
    if owner.unit.endswith(".service"):
        return f"systemctl disable --now {owner.unit}"
    end = f"end it (kill {owner.pid})"
    return f"{end}, or give it or us another port" if protocol == "TCP" else end


def look(
    farm: Farm,
    interfaces: Iterable[str],
    proc: Path = PROC,
    is_free: Callable[[Wanted, str], bool | None] | None = None,
    me: int | None = None,
    daemon: Daemon | None = None,
) -> list[Finding]:
    """Return the ports that others have and that we need on `interfaces`.

    `is_free` says whether a port could be bound on an interface ("" for an address), None if that cannot be said.
    `daemon` is the one that answers at our control socket: whoever may not look into its process takes its sockets
    for its own by their user.
    """
    me, free = me or os.getpid(), is_free or can_bind
    found, sockets = [], tables(proc)
    for port in wanted(farm):
        there = [one for one in listeners(port.protocol, port.port, sockets) if _meets(port, one)]
        if not there:
            continue
        known = owners({listener.inode for listener in there}, proc)
        held = [known.get(one.inode) or _unseen(one.uid, daemon) for one in there]
        if any(owner.pid == me for owner in held):
            continue
        names = [*interfaces] if port.of_machines else [""]
        tried = {free(port, name) for name in names}
        in_the_way = None if None in tried and False not in tried else False in tried or not names
        found += [_finding(port, owner, in_the_way=in_the_way) for owner in dict.fromkeys(held)]
    return found


def _unseen(uid: int, daemon: Daemon | None) -> Owner:
    """Return whose a socket is, of whose process we see nothing but its user."""
    if daemon is not None and uid in (0, daemon.uid):  # 0: made for it by systemd, or before it let go of root
        return Owner(daemon.pid, "pxeboot serve", pxeboot=True)
    try:
        return Owner(0, f"a program of {pwd.getpwuid(uid).pw_name}")
    except KeyError:
        return Owner(0, f"a program of user {uid}")


def _finding(port: Wanted, owner: Owner, *, in_the_way: bool | None) -> Finding:
    if owner.pxeboot:
        return Finding("note", str(port), f"{port} ({port.what}) {_OF_OURS} (pid {owner.pid})")
    if in_the_way is False:
        what = f"{port} is also used by {owner}, at an address or interface that is not ours"
        return Finding("note", str(port), what)
    what, as_root = f"{port}, which {port.what} needs, is taken by {owner}", remedy(port.protocol, port.port, owner)
    if in_the_way is None:
        what = f"{port}, which {port.what} needs, has a socket of {owner}; if that is in our way, only root can tell"
        return Finding("warning", str(port), what, as_root)
    return Finding("error" if port.of_machines else "warning", str(port), what, as_root)


def _meets(port: Wanted, listener: Listener) -> bool:
    return port.host in (*_ANY, listener.address) or listener.address in _ANY


def can_bind(port: Wanted, interface: str) -> bool | None:
    """Try to bind a port, on an interface if one is named, and let go of it at once."""
    kind = socket.SOCK_DGRAM if port.protocol == "UDP" else socket.SOCK_STREAM
    try:
        with socket.socket(socket.AF_INET6 if ":" in port.host else socket.AF_INET, kind) as sock:
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if interface:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
            sock.bind((port.host, port.port))
    except OSError as error:
        return False if error.errno == errno.EADDRINUSE else None
    return True


def answering(control: Path) -> Daemon | None:
    """Return who listens at a control socket, as the kernel says (SO_PEERCRED, unix(7)).

    None if nobody does. Raises `PermissionError` if we may not ask.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(2.0)
            sock.connect(str(control))
            pid, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    except PermissionError:
        raise
    except OSError:
        return None
    return Daemon(pid, uid) if pid else None


def explained(error: OSError, farm: Farm, interfaces: Iterable[str]) -> str:
    """Return the text of an error of binding our ports, with whose they are if they are taken."""
    told = [error.strerror or str(error)]
    if error.errno == errno.EADDRINUSE:
        found = look(farm, interfaces)
        told += [str(finding) for finding in found if finding.level == "error"]
        told += [str(finding) for finding in found if _OF_OURS in finding.what][:1]
    return "; ".join(told)
