"""The servers that are compared, each with the same networks and options, and started afresh for each measurement."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol

from bench.serving import Server, serving
from tests.support.segment import Host

SERVER = "10.28.0.1"
RELAY = "10.28.0.2"
PREFIX = 14
NETWORK = f"10.28.0.0/{PREFIX}"
POOL = ("10.29.0.0", "10.30.255.255")
"""131,072 addresses: none of the runs empties it."""
MASK = "255.252.0.0"
LEASE_S = 43200
DOMAIN = "farm.example"
PATIENCE_S = 60.0
"""How long a server may take to start or to stop. Our very first start makes GRUB's network images."""


class Leases(StrEnum):
    """Whose addresses are given out."""

    DYNAMIC = "dynamic"
    """To strangers, from the pool."""
    STATIC = "static"
    """To machines that are configured, and to nobody else."""


@dataclass(frozen=True, slots=True)
class Known:
    """A machine that is configured."""

    mac: str
    address: IPv4Address


def known(count: int) -> tuple[Known, ...]:
    """Return machines with addresses outside the pool."""
    first = int(IPv4Address("10.28.1.0"))
    return tuple(
        Known(f"52:54:00:{n >> 16:02x}:{n >> 8 & 255:02x}:{n & 255:02x}", IPv4Address(first + n)) for n in range(count)
    )


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and with what a server is started. `folder` is its own, and on a real disk."""

    folder: Path
    leases: Leases
    machines: tuple[Known, ...] = ()


class Peer(Protocol):
    """One kind of server."""

    @property
    def name(self) -> str:
        """How it is called on the command line."""

    @property
    def says_ready(self) -> str:
        """What stands in its log once it answers."""

    def title(self) -> str:
        """Return its name, version and how it runs."""

    def prepare(self, setting: Setting) -> list[str]:
        """Write its configuration into the folder, and return the command that serves it in the foreground."""

    def environment(self, setting: Setting) -> dict[str, str]:
        """Return what it needs in its environment."""


class Pxeboot:
    """Ours: the daemon as it is installed, with all its servers, each lease synced to disk before its ACK."""

    name = "pxeboot"
    says_ready = "ready in"

    def __init__(self, program: Sequence[str] = (sys.executable, "-m", "pxeboot")) -> None:
        """`program` is what is run in place of the command `pxeboot`."""
        self._program = list(program)

    def title(self) -> str:
        """Return its name."""
        return "pxeboot (pxeboot serve, INFO log, fdatasync before the ACK)"

    def prepare(self, setting: Setting) -> list[str]:
        """Write the farm."""
        state = setting.folder / "state"
        for old in state.glob("leases*"):
            old.unlink()
        subnet: dict[str, object] = {
            "subnet": NETWORK,
            "routers": [SERVER],
            "domain_name_servers": [SERVER, RELAY],
            "domain_name": DOMAIN,
        }
        if setting.leases is Leases.DYNAMIC:
            subnet |= {"pool": "-".join(POOL), "unknown": "workers"}
        nodes = [
            {"name": f"m{n}", "macs": [machine.mac], "ip": str(machine.address)}
            for n, machine in enumerate(setting.machines)
        ]
        farm = {
            "server": {"interfaces": ["eth1"], "state": str(state), "control": f"{setting.folder}/control.sock"},
            "dhcp": {"lease_s": LEASE_S, "subnets": [subnet]},
            "images": {"node": {"path": f"{setting.folder}/images/node"}},
            "pools": [{"name": "workers", "image": "node", "nodes": nodes}],
        }
        file = setting.folder / "farm.yaml"
        file.write_text(json.dumps(farm))
        return [*self._program, "serve", "--config", str(file)]

    def environment(self, setting: Setting) -> dict[str, str]:
        """Return nothing."""
        return {}


class Kea:
    """kea-dhcp4: memfile, INFO log as Debian configures it; with one thread, its default, or several."""

    says_ready = "DHCP4_STARTED"

    def __init__(self, name: str = "kea", *, threads: bool = False) -> None:
        self.name = name
        self._threads = threads

    def title(self) -> str:
        """Return its name and version."""
        version = subprocess.run(["kea-dhcp4", "-v"], capture_output=True, text=True, check=True).stdout.strip()
        threads = "a thread for each processor" if self._threads else "threads as by default"
        return f"{self.name} {version} (memfile, INFO log, {threads}, never syncs)"

    def prepare(self, setting: Setting) -> list[str]:
        """Write its configuration, and copy the program: AppArmor lets the installed one write nowhere but in /var."""
        for old in setting.folder.glob("leases*"):
            old.unlink()
        (setting.folder / "kea.log").unlink(missing_ok=True)
        subnet: dict[str, object] = {"id": 1, "subnet": NETWORK}
        if setting.leases is Leases.DYNAMIC:
            subnet["pools"] = [{"pool": " - ".join(POOL)}]
        else:
            subnet |= {
                "reservations-in-subnet": True,
                "reservations-out-of-pool": True,
                "reservations": [
                    {"hw-address": machine.mac, "ip-address": str(machine.address), "hostname": f"m{n}"}
                    for n, machine in enumerate(setting.machines)
                ],
            }
        server = {
            "interfaces-config": {"interfaces": ["eth1"]},
            "lease-database": {"type": "memfile", "persist": True, "name": f"{setting.folder}/leases.csv"},
            "valid-lifetime": LEASE_S,
            "next-server": SERVER,
            "boot-file-name": "grub/x86_64-efi/core.efi",
            "option-data": [
                {"name": "routers", "data": SERVER},
                {"name": "domain-name-servers", "data": f"{SERVER}, {RELAY}"},
                {"name": "domain-name", "data": DOMAIN},
            ],
            "subnet4": [subnet],
            "loggers": [
                {
                    "name": "kea-dhcp4",
                    "severity": "INFO",
                    "output_options": [{"output": f"{setting.folder}/kea.log"}],
                }
            ],
        }
        if self._threads:
            server["multi-threading"] = {"enable-multi-threading": True}
        file = setting.folder / "kea.json"
        file.write_text(json.dumps({"Dhcp4": server}))
        program = setting.folder / "kea-dhcp4"
        shutil.copy(shutil.which("kea-dhcp4") or "/usr/sbin/kea-dhcp4", program)
        return [str(program), "-c", str(file)]

    def environment(self, setting: Setting) -> dict[str, str]:
        """Return where it may write (the last three: from Kea 3 on)."""
        names = (
            "KEA_PIDFILE_DIR",
            "KEA_LOCKFILE_DIR",
            "KEA_DHCP_DATA_DIR",
            "KEA_LOG_FILE_DIR",
            "KEA_CONTROL_SOCKET_DIR",
        )
        return dict.fromkeys(names, str(setting.folder))


class Dnsmasq:
    """dnsmasq, without DNS, without the limit of 1,000 leases and without the ping that would take it 3 s each."""

    name = "dnsmasq"
    says_ready = "DHCP, "

    def title(self) -> str:
        """Return its name and version."""
        said = subprocess.run(["dnsmasq", "--version"], capture_output=True, text=True, check=True).stdout
        return f"dnsmasq {said.split()[2]} (no ping before an offer, syncs the whole file)"

    def prepare(self, setting: Setting) -> list[str]:
        """Write the machines."""
        folder = setting.folder
        for name in ("leases", "dnsmasq.log"):
            (folder / name).unlink(missing_ok=True)
        (folder / "hosts").write_text("".join(f"{m.mac},{m.address}\n" for m in setting.machines))
        pool = f"{POOL[0]},{POOL[1]}" if setting.leases is Leases.DYNAMIC else "10.28.0.0,static"
        return [
            *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file="),
            *("--interface=eth1", "--bind-interfaces", "--no-ping", "--dhcp-authoritative", "--dhcp-lease-max=200000"),
            f"--dhcp-leasefile={folder}/leases",
            f"--dhcp-hostsfile={folder}/hosts",
            f"--log-facility={folder}/dnsmasq.log",
            f"--dhcp-range={pool},{MASK},{LEASE_S}",
            f"--dhcp-option=option:router,{SERVER}",
            f"--dhcp-option=option:dns-server,{SERVER},{RELAY}",
            f"--domain={DOMAIN}",
            f"--dhcp-boot=grub/x86_64-efi/core.efi,,{SERVER}",
        ]

    def environment(self, setting: Setting) -> dict[str, str]:
        """Return nothing."""
        return {}


@contextmanager
def running(peer: Peer, setting: Setting, host: Host, checkout: Path) -> Iterator[int]:
    """Start a server on `host` with no leases, wait until it is ready, yield its pid, and stop it.

    `checkout` is the folder it starts in: where `pxeboot` is found. Raises `NotReady`.
    """
    setting.folder.mkdir(parents=True, exist_ok=True)
    server = Server(
        peer.name,
        peer.prepare(setting),
        [setting.folder / name for name in ("out", "kea.log", "dnsmasq.log")],
        lambda _pid, said: peer.says_ready in said,
        PATIENCE_S,
        tuple(peer.environment(setting).items()),
        checkout,
    )
    with serving(server, host) as pid:
        yield pid
