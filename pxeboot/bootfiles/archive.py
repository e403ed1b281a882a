"""node.cpio: everything about one machine that its stock initrd does not know. Pure.

It is loaded before the distribution's own initrd and brings the boot script, the modules that initrd lacks, the
machine's lts.conf and its files.
"""

import hashlib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from config.ltsconf import numbered, quote
from config.model import NodeSettings
from config.places import is_unit, place
from pxeboot.bootfiles.cpio import Entry, archive
from pxeboot.bootfiles.machine import Machine

NUMBERED = ("FSTAB", "PREINIT", "RCFILE", "HOSTS", "CRONTAB", "MODULE", "INIT_COMMAND")
"""Families of lts.conf keys that are applied in the order of their numbers."""

REMOVED_BY_DEFAULT = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap",
    "fstrim.timer", "man-db.timer", "nbd-server", "dnsmasq", "tftpd-hpa", "isc-dhcp-server",
)  # fmt: skip
"""What has no business on a machine that boots over the network, unless KEEP_SYSTEM_SERVICES names it."""

JOURNAL_TO_KERNEL = b"""\
# made by pxeboot: warnings of the journal go into the kernel's log, and so by netconsole to the server
[Journal]
ForwardToKMsg=yes
MaxLevelKMsg=warning
"""

SCRIPTS = ("say", "get", "report", "rcfile")
UNITS = ("pxeboot-report.service", "pxeboot-rcfile.service")


@dataclass(frozen=True, slots=True)
class Root:
    """Where the machine's root comes from."""

    image_id: str
    squashfs_sha256: str
    size_bytes: int
    modules: Sequence[tuple[str, bytes]]
    """Name and bytes of the kernel modules to load, in order."""
    server: str
    """The URL of our HTTP server."""
    nbd_host: str
    nbd_port: int
    join_key: str = ""
    """The lts.conf key of the command that joins the machine's cluster; "" if it joins none."""
    join_once: str = ""
    """The name below `server` that the machine fetches its join command from, once; "" if it comes in lts.conf."""
    netconsole_port: int | None = None
    """Where on `nbd_host` its kernel's log is received, a UDP port; None: nowhere."""


def node_cpio(
    machine: Machine,
    root: Root,
    lts: Mapping[str, str],
    settings: NodeSettings,
    files: Mapping[str, bytes],
    node: Mapping[str, bytes],
) -> bytes:
    """Return the archive for one machine.

    `lts` is its lts.conf, resolved; `files` the bytes of `settings.files`; `node` the scripts of the node/ folder.
    """
    entries = [
        Entry("scripts/pxeboot", node["mountroot"]),
        Entry("pxeboot/prepare", node["prepare"]),
        Entry("pxeboot/nbd", node["nbd"]),
        Entry("pxeboot/nbd-keeper", node["nbd-keeper.pl"]),
        Entry("pxeboot/env", env(machine, root), 0o600),
        Entry("pxeboot/remove-services", lines(REMOVED_BY_DEFAULT)),
        Entry("pxeboot/enable-services", lines(enabled_services(machine, settings))),
    ]
    entries += [Entry(f"pxeboot/modules/{name}", data) for name, data in root.modules]
    entries += [
        Entry(f"pxeboot/lts/{number:04}.{key}", value.encode(), 0o600, folder_mode=0o700)
        # A join command that is fetched has its place among the others.
        for number, (key, value) in enumerate(ordered({**lts, root.join_key: ""} if root.join_once else lts))
    ]
    entries += [in_root(path, data, mode) for path, data, mode in root_files(machine, settings, files)]
    if root.netconsole_port is not None:
        entries.append(in_root("etc/systemd/journald.conf.d/pxeboot-netconsole.conf", JOURNAL_TO_KERNEL))
    entries += [in_root(f"usr/lib/pxeboot/{name}", node[name], 0o755) for name in SCRIPTS]
    entries += [in_root(f"etc/systemd/system/{name}", node[name]) for name in UNITS]
    entries.append(in_root("usr/lib/systemd/system-shutdown/pxeboot", node["let-go"], 0o755))
    entries.append(Entry("pxeboot/root/etc/localtime", target=f"/usr/share/zoneinfo/{settings.timezone}"))
    if settings.root_password_hash is not None:
        entries.append(Entry("pxeboot/root-password", f"{settings.root_password_hash}".encode(), 0o600))
    entries.append(in_root("etc/lts.conf", lts_text(machine, lts), 0o600))
    return archive(entries)


def in_root(path: str, data: bytes, mode: int = 0o644) -> Entry:
    """Return a file that the machine finds at /`path`."""
    return Entry(f"pxeboot/root/{path}", data, mode, folder_mode=0o700 if path.startswith("root/.ssh/") else 0o755)


def lines(words: Iterable[str]) -> bytes:
    """Return a text with a line for each word."""
    return "".join(f"{word}\n" for word in words).encode()


def env(machine: Machine, root: Root) -> bytes:
    """Return the variables of the boot script, quoted for the shell that reads them."""
    values = {
        "NAME": machine.name,
        "SERVER": root.server,
        "ROOT": machine.pool.root,
        "WRITABLE": "1" if writable(machine) else "",
        "IMAGE_ID": root.image_id,
        "IMAGE_URL": f"{root.server}/images/{root.image_id}/root.squashfs",
        "SHA256": root.squashfs_sha256,
        "SIZE": str(root.size_bytes),
        "NBD_HOST": root.nbd_host,
        "NBD_PORT": str(root.nbd_port),
        "NBD_EXPORT": f"node/{machine.name}" if writable(machine) else root.image_id,
        "JOIN_KEY": root.join_key,
        "JOIN_ONCE": root.join_once,
        "NETCONSOLE_PORT": str(root.netconsole_port or ""),
    }
    return "".join(f"{key}={shlex.quote(value)}\n" for key, value in values.items()).encode()


def writable(machine: Machine) -> bool:
    """Return whether the machine writes to a root of its own on the server, and not to a layer in its RAM."""
    return machine.pool.root == "nbd" and machine.pool.writable is not None


def ordered(lts: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return lts.conf's keys, each numbered family in version order and the others by name."""
    families = [pair for family in NUMBERED for pair in numbered(lts, f"{family}_")]
    known = {key for key, _ in families}
    return families + sorted((key, value) for key, value in lts.items() if key not in known)


def lts_text(machine: Machine, lts: Mapping[str, str]) -> bytes:
    """Return /etc/lts.conf as a person reads it on the machine."""
    text = "".join(f"{key} = {quote(value)}\n" for key, value in ordered(lts))
    return f"# what pxeboot resolved for {machine.name} at this boot\n[Default]\n{text}".encode()


def enabled_services(machine: Machine, settings: NodeSettings) -> list[str]:
    """Return the systemd units to enable: ours, the farm's, and every service that came as a file."""
    from_files = [path for path in settings.files if is_unit(path)]
    wanted = [*UNITS, *machine.services, *from_files]
    return list(dict.fromkeys(name if "." in name else f"{name}.service" for name in wanted))


def root_files(
    machine: Machine, settings: NodeSettings, files: Mapping[str, bytes]
) -> Iterable[tuple[str, bytes, int]]:
    """Yield (path in the root, bytes, mode) of every file that the farm's settings make."""
    yield "etc/hostname", f"{machine.name}\n".encode(), 0o644
    yield "etc/hosts", hosts(machine), 0o644
    yield "etc/machine-id", f"{machine_id(machine)}\n".encode(), 0o444
    yield "etc/timezone", f"{settings.timezone}\n".encode(), 0o644
    yield "etc/systemd/network/05-pxeboot.network", network(machine), 0o644
    if settings.ssh_authorized_keys:
        yield "root/.ssh/authorized_keys", lines(settings.ssh_authorized_keys), 0o600
    if settings.sysctls:
        yield "etc/sysctl.d/90-pxeboot.conf", lines(f"{k} = {v}" for k, v in settings.sysctls.items()), 0o644
    if settings.modules:
        yield "etc/modules-load.d/pxeboot.conf", lines(settings.modules), 0o644
    if machine.labels or machine.taints:
        yield "etc/default/kubelet", kubelet(machine), 0o644
    for path, data in files.items():
        yield place(path), data, int(settings.files[path].mode, 8)


def hosts(machine: Machine) -> bytes:
    """Return /etc/hosts with the machine's own name; HOSTS_* of lts.conf is added to it on the machine."""
    return (f"127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{machine.ip} {machine.name}\n").encode()


def machine_id(machine: Machine) -> str:
    """Return a machine-id that stays the same over reboots and differs between machines (machine-id(5))."""
    return hashlib.sha256(f"pxeboot machine-id {machine.macs[0]}".encode()).hexdigest()[:32]


def network(machine: Machine) -> bytes:
    """Return systemd-networkd's file for the card that booted: keep its address, and renew the lease.

    KeepConfiguration matters with an NBD root, which must not lose its address while the lease is taken over. The name
    is in /etc/hostname; to be told it once more starts systemd-hostnamed for nothing.
    """
    return f"""\
[Match]
MACAddress={machine.mac}

[Network]
DHCP=ipv4
KeepConfiguration=yes

[DHCPv4]
ClientIdentifier=mac
UseMTU=yes
UseHostname=no
""".encode()


def kubelet(machine: Machine) -> bytes:
    """Return /etc/default/kubelet: labels and taints to register with (they count at first registration only)."""
    arguments = []
    if machine.labels:
        arguments.append("--node-labels=" + ",".join(f"{key}={value}" for key, value in machine.labels.items()))
    if machine.taints:
        taints = [f"{t.key}={t.value}:{t.effect}" if t.value else f"{t.key}:{t.effect}" for t in machine.taints]
        arguments.append("--register-with-taints=" + ",".join(taints))
    return f'KUBELET_EXTRA_ARGS="{" ".join(arguments)}"\n'.encode()
