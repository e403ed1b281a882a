"""A join command of one's own, from the farm's file to the program that the machine runs: k3s, in this case.

The daemon is the real one, and so are the scripts of node/, as node.cpio brings them; k3s notes how it is called.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pxeboot.cli.asking import ask
from tests.support.cpio_reader import Unpacked, unpack
from tests.support.initramfs import busybox_root, inside, unpack_into
from tests.support.kube_thread import until
from tests.support.segment import Host, Segment, lacking
from tests.support.served import IP, MAC, Daemon, Prepared, get_lease, http, make_grub, status

pytestmark = pytest.mark.net

LONG = "0123456789abcdef" * 4
SECRET = f"K10{LONG} b'c\"$(touch /broken-out)`touch /broken-out`::server:d\\e"
"""No shell must see more in it than a word."""
COMMAND = """\
set -e
K3S_TOKEN={token} k3s agent --server 'https://k3s.example:6443' --node-name {name} --node-ip {ip} \\
    --node-label {labels} --node-taint {taints} --data-dir "${{DATA:-/var/lib}}/k3s"
echo '{{joined}}'
"""
K3S = """\
#!/bin/sh
printf "%s\\n" "$@" >/called
printf %s "$K3S_TOKEN" >/token
[ ! -e /fails ] || { rm /fails; echo "k3s.example:6443 does not like $K3S_TOKEN"; exit 1; }
"""
TAG = {
    "labels": {"gpu": "yes", "zone": "b"},
    "taints": [{"key": "gpu", "value": "true", "effect": "NoSchedule"}, {"key": "slow", "effect": "PreferNoSchedule"}],
}


class Booted:
    """A machine that has booted: its root, with what its node.cpio brought."""

    def __init__(self, host: Host, root: Path, entries: dict[str, Unpacked]) -> None:
        self.host = host
        self.root = root
        own = {
            path.removeprefix("pxeboot/root/"): e for path, e in entries.items() if path.startswith("pxeboot/root/")
        }
        unpack_into(
            root, {path: entry for path, entry in own.items() if not (entry.is_folder and (root / path).exists())}
        )
        (root / "run/pxeboot/rcfile.d").mkdir(parents=True)
        (root / "run/pxeboot/env").write_bytes(entries["pxeboot/env"].data)
        for path, entry in entries.items():
            if re.fullmatch(r"pxeboot/lts/\d{4}\.RCFILE_.*", path):
                (root / "run/pxeboot/rcfile.d" / path.rpartition("/")[2]).write_bytes(entry.data)
        (root / "proc/uptime").write_text("100.00 0\n")
        shutil.copy(shutil.which("busybox") or "", root / "usr/lib/pxeboot/busybox")
        (root / "bin/k3s").write_text(K3S)
        (root / "bin/k3s").chmod(0o755)

    def run(self) -> int:
        """Do what pxeboot-rcfile.service does; return its status."""
        return self.start().wait(180)

    def start(self) -> "subprocess.Popen[bytes]":
        """Begin with it."""
        argv = self.host.argv(*inside(self.root, "/usr/lib/pxeboot/rcfile"))
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def read(self, name: str) -> str:
        """Return a file of the machine."""
        return (self.root / name).read_text()


class Farm:
    """A farm whose one machine joins by a command of its own."""

    def __init__(self, folder: Path, segment: Segment, grub: Path) -> None:
        self.token_file = folder / "k3s.token"
        self.token_file.write_text(f"{SECRET}\n")
        self.prepared = Prepared(
            folder, grub,
            clusters={"prod": {"command": COMMAND, "token_file": str(self.token_file)}},
            tags={"all": TAG},
        )  # fmt: skip
        self.daemon = Daemon(segment.server, folder, "-c", str(self.prepared.configuration))
        self.host = segment.host(mac=MAC)
        assert get_lease(self.host) == IP

    def boot(self, root: Path, shell: str) -> Booted:
        """Fetch the machine's menu, then its node.cpio."""
        code, menu = http(self.host, f"grub/grub.cfg-01-{MAC.replace(':', '-')}")
        assert code == 200
        found = re.search(r"/(images/[0-9a-f]{64}/01-\S*node\.cpio)", menu.decode())
        assert found
        code, archive = http(self.host, found[1])
        assert code == 200
        return Booted(self.host, busybox_root(root, shell), unpack(archive))

    @property
    def steps(self) -> list[tuple[str, str]]:
        """Stage and detail of each step of the machine's newest boot."""
        _, machine = ask(self.prepared.control, "/v1/machines/m1")
        return [(step["stage"], step["detail"]) for step in machine["boot"]["steps"]]


@pytest.fixture(scope="module")
def grub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not all(map(shutil.which, ("grub-mknetdir", "ip", "busybox", "dash", "curl"))) or os.geteuid() != 0:
        lacking("needs root, ip, busybox, dash, curl and grub-mknetdir")
    return make_grub(tmp_path_factory.mktemp("grub"))


@pytest.fixture
def farm(tmp_path: Path, grub: Path) -> Iterator[Farm]:
    with Segment() as segment:
        yield Farm(tmp_path, segment, grub)


@pytest.mark.parametrize("shell", ["dash", "busybox"])
def test_a_machine_runs_the_command_with_everything_in_its_place(farm: Farm, tmp_path: Path, shell: str) -> None:
    machine = farm.boot(tmp_path / "root", shell)
    (machine.root / "fails").touch()  # and it is tried again
    assert machine.run() == 0
    assert not (machine.root / "fails").exists()
    assert machine.read("called").splitlines() == [
        "agent", "--server", "https://k3s.example:6443", "--node-name", "m1", "--node-ip", IP,
        "--node-label", "gpu=yes,zone=b", "--node-taint", "gpu=true:NoSchedule,slow:PreferNoSchedule",
        "--data-dir", "/var/lib/k3s",
    ]  # fmt: skip
    assert machine.read("token") == SECRET
    assert not (machine.root / "broken-out").exists()
    assert farm.steps[-1] == ("joined", "{joined}")
    assert [stage for stage, _ in farm.steps if stage in ("token", "approved", "registered", "ready")] == []


def test_nobody_sees_the_secret_of_the_command(farm: Farm, tmp_path: Path) -> None:
    """Not even where its program repeats it. What it is that fails can be seen all the same."""
    machine = farm.boot(tmp_path / "root", "busybox")
    (machine.root / "fails").touch()
    running = machine.start()
    seen: set[str] = set()

    def has_failed() -> bool:
        seen.update(detail for stage, detail in farm.steps if stage == "joining")
        return any(detail.startswith("try 1 failed") for detail in seen)

    until(has_failed, "it fails once")
    assert running.wait(180) == 0
    (failed,) = [detail for detail in seen if detail.startswith("try 1 failed")]
    assert failed.startswith("try 1 failed: k3s.example:6443 does not like *** b'c")
    assert "runs the cluster's own join command" in farm.daemon.log
    assert LONG not in farm.daemon.log + str(farm.steps) + status(farm.prepared.control).stdout + str(seen)
    assert not list((machine.root / "run/pxeboot").glob("join-words"))


def test_a_boot_may_fetch_it_once_and_a_new_boot_again(farm: Farm, tmp_path: Path) -> None:
    first = farm.boot(tmp_path / "one", "busybox")
    assert first.run() == 0
    name = re.search(r"JOIN_ONCE=(join/[0-9a-f]{32})", first.read("run/pxeboot/env"))
    assert name
    assert http(farm.host, name[1])[0] == 410
    farm.token_file.write_text("K10another\n")
    second = farm.boot(tmp_path / "two", "busybox")
    assert second.run() == 0
    assert second.read("token") == "K10another"
