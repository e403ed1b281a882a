"""A farm that changes while it is served: whoever is in the middle of something notices nothing (F-13, F-26)."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dhcp import journal
from tests.support.dhcp_clients import store_leases
from tests.support.fake_image import add_image
from tests.support.segment import CommandFailed, Host, Segment, lacking
from tests.support.served import IP, MAC, SERVER, Daemon, get_lease, http, make_grub, status, status_json, tftp

pytestmark = pytest.mark.net

SIZE_BYTES = 12 << 20
"""More than the buffers of a connection hold."""
OTHER_IP = "10.77.0.12"
MENU = f"grub/grub.cfg-01-{MAC.replace(':', '-')}"

HTTP = """\
import hashlib, socket, sys
sock = socket.socket()
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
sock.connect((sys.argv[1], 80))
sock.sendall(b"GET /" + sys.argv[2].encode() + b" HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
data = sock.recv(65536)
print("begun", flush=True)
sys.stdin.readline()
while some := sock.recv(65536):
    data += some
print(hashlib.sha256(data.partition(b"\\r\\n\\r\\n")[2]).hexdigest())
"""

TFTP = """\
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(60)
sock.sendto(b"\\0\\1" + sys.argv[2].encode() + b"\\0octet\\0blksize\\0%d\\0" % 1024, (sys.argv[1], 69))
out, number = bytearray(), 0
while True:
    data, peer = sock.recvfrom(65536)
    if data[1] == 3 and int.from_bytes(data[2:4], "big") == (number + 1) & 65535:
        number += 1
        out += data[4:]
        if number == 20:
            print("begun", flush=True)
            sys.stdin.readline()
    sock.sendto(b"\\0\\4" + (number & 65535).to_bytes(2, "big"), peer)
    if data[1] == 3 and len(data) < 1028:
        break
import hashlib
print(hashlib.sha256(out).hexdigest())
"""

NBD = """\
import nbd, sys, hashlib
h = nbd.NBD()
h.set_export_name(sys.argv[2])
h.connect_tcp(sys.argv[1], "10809")
size = h.get_size()
half = size // 2
first = h.pread(half, 0)
print("begun", flush=True)
sys.stdin.readline()
print(hashlib.sha256(first + h.pread(size - half, half)).hexdigest())
"""

RENEW = """\
import socket, struct, sys
own, server, mac = sys.argv[1:4]
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(60)
sock.bind(("0.0.0.0", 68))
head = struct.pack("!BBBBIHH", 1, 1, 6, 0, 77, 0, 0) + socket.inet_aton(own) + bytes(12)
head += bytes.fromhex(mac.replace(":", "")) + bytes(10 + 64 + 128) + bytes.fromhex("63825363")
sock.sendto(head + bytes((53, 1, 3, 255)), (server, 67))
data = sock.recv(2048)
print(data[data.index(b"\\x35\\x01") + 2])
"""


class World:
    """A daemon with its farm in a folder as a kubelet mounts a ConfigMap, and a client."""

    def __init__(self, segment: Segment, folder: Path, grub: Path) -> None:
        self.segment, self.folder = segment, folder
        self.image = add_image(folder / "images", size_bytes=SIZE_BYTES)
        self.other = add_image(folder / "others", "other", "two", size_bytes=SIZE_BYTES)
        shutil.copytree(grub, folder / "state/boot")
        self.control = folder / "control.sock"
        self.mount = folder / "mount"
        self.mount.mkdir()
        self.file = self.mount / "farm.yaml"
        self._versions = 0
        self.configmap(self.text())
        self.file.symlink_to("..data/farm.yaml")
        self.daemon = Daemon(segment.server, folder, "--config", str(self.file))

    def text(self, **more: Any) -> str:
        """Return the farm's file; `word` is a word for m1's kernel, `ip` its address, others replace sections."""
        word, ip, image = (more.pop(key, default) for key, default in (("word", "one"), ("ip", IP), ("image", "node")))
        folder = self.folder
        farm: dict[str, Any] = {
            "server": {"interfaces": ["eth1"], "state": str(folder / "state"), "control": str(self.control)},
            "dhcp": {"subnets": [{"subnet": "10.77.0.0/24", "pool": "10.77.0.200-10.77.0.220"}]},
            "images": {
                "node": {"path": str(folder / "images/node")}, "other": {"path": str(folder / "others/other")},
            },
            "pools": [{"name": "workers", "image": image, "kernel_parameters": [f"word={word}"],
                       "nodes": [{"name": "m1", "macs": [MAC], "ip": ip}]}],
        }  # fmt: skip
        return yaml.safe_dump({**farm, **more}, sort_keys=False)

    def configmap(self, text: str) -> None:
        """Put another version where `farm.yaml` leads to, as a kubelet does."""
        self._versions += 1
        version = self.mount / f"..version_{self._versions}"
        version.mkdir()
        (version / "farm.yaml").write_text(text)
        (self.mount / "..data_tmp").symlink_to(version.name)
        (self.mount / "..data_tmp").rename(self.mount / "..data")

    def put(self, text: str) -> None:
        """Write another version as an editor does, and have it read, unless it was already."""
        new = self.mount / "new"
        new.write_text(text)
        new.rename(self.file)

    def reload(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run `pxeboot reload`."""
        command = [sys.executable, "-m", "pxeboot", "reload", "--control", str(self.control), *argv]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    def serve(self, **more: Any) -> None:
        """Have this farm served."""
        self.put(self.text(**more))
        done = self.reload()
        assert done.returncode == 0, done.stderr

    @property
    def stands(self) -> Any:
        """How the file stands, as the status says."""
        return status_json(self.control)["configuration"]

    @property
    def menu(self) -> str:
        """What GRUB is told on m1."""
        code, body = http(self.segment.client, MENU)
        assert code == 200
        return body.decode()

    def until(self, holds: Callable[[], bool], what: str, within_s: float = 90.0) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < deadline, f"{what}; the log:\n{self.daemon.log[-3000:]}"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def grub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GRUB's images, made once."""
    if not all(map(shutil.which, ("grub-mknetdir", "ip"))) or os.geteuid() != 0:
        lacking("needs root, ip and grub-mknetdir")
    return make_grub(tmp_path_factory.mktemp("grub"))


@pytest.fixture(scope="module")
def one(grub: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One daemon for all tests; m1 has its address."""
    with Segment() as segment:
        segment.client.run("ip", "link", "set", "eth0", "address", MAC)
        world = World(segment, tmp_path_factory.mktemp("world"), grub)
        segment.client.run("ip", "address", "replace", f"{IP}/24", "dev", "eth0")
        try:
            yield world
        finally:
            world.daemon.stop()


@pytest.fixture
def world(one: World) -> Iterator[World]:
    """That daemon, serving what it began with."""
    one.serve()
    yield one
    assert one.daemon.process.poll() is None, one.daemon.log


def test_a_configmap_that_is_updated_is_served(one: World) -> None:
    assert "word=one" in one.menu
    one.configmap(one.text(word="mounted"))
    one.until(lambda: "word=mounted" in one.menu, "the ConfigMap is not served")
    assert one.stands["refused"] is None


def test_a_file_that_an_editor_replaces_is_served_by_itself(world: World) -> None:
    before = world.stands["generation"]
    world.put(world.text(word="edited"))
    world.until(lambda: "word=edited" in world.menu, "the file is not served")
    assert world.stands["generation"] == before + 1
    assert tftp(world.segment.client, MENU) == world.menu.encode(), "both doors lead to the same farm"


def test_sighup_has_the_file_read_and_systemd_is_told(world: World) -> None:
    while world.daemon.said():
        pass
    world.daemon.process.send_signal(signal.SIGHUP)
    said: list[str] = []

    def told() -> bool:
        said.extend(word for word in [world.daemon.said()] if word)
        return len(said) == 2

    world.until(told, "systemd is not told")
    assert said[0].startswith("RELOADING=1\nMONOTONIC_USEC="), said
    assert said[1] == "READY=1"


def test_a_person_is_told_what_came_of_it(world: World) -> None:
    assert "says what is served" in world.reload().stdout
    world.put(world.text(word="asked", tftp={"windowsize": 8, "single_port": True}))
    done = world.reload()
    # It may have noticed by itself a moment ago.
    assert (done.returncode, done.stderr) == (
        0, "needs a restart: tftp.single_port: true in the file, false until a restart\n",
    )  # fmt: skip
    assert "word=asked" in world.menu
    assert json.loads(world.reload("--json").stdout)["result"] == "unchanged"
    assert "needs a restart: tftp.single_port" in status(world.control).stdout


def duplicate(world: World) -> None:
    values = yaml.safe_load(world.text())
    nodes = values["pools"][0]["nodes"]
    nodes.append({**nodes[0], "macs": ["52:54:00:00:00:99"], "ip": "10.77.0.99"})
    world.put(yaml.safe_dump(values))


def unreadable(world: World) -> None:
    (world.mount / "new").symlink_to("nothing")
    (world.mount / "new").rename(world.file)


BROKEN: list[Any] = [
    pytest.param(lambda world: world.put("pools: [\n"), ":2:1: this is not YAML", id="syntax"),
    pytest.param(lambda world: world.put(world.text(image="nod")), "did you mean 'node'?", id="meaning"),
    pytest.param(lambda world: world.put(world.text(tfpt={})), "did you mean 'tftp'?", id="unknown key"),
    pytest.param(duplicate, "m1", id="duplicate host"),
    pytest.param(unreadable, "cannot be read: No such file or directory", id="unreadable"),
    pytest.param(lambda world: world.put(""), "the file is empty", id="empty"),
    pytest.param(lambda world: world.put(world.text()[:-30]), "", id="half of it"),
]


@pytest.mark.parametrize(("break_it", "mistake"), BROKEN)
def test_a_broken_file_is_refused_and_shown_and_what_was_served_stays(
    world: World, break_it: Callable[[World], None], mistake: str
) -> None:
    before = world.stands["generation"]
    break_it(world)
    done = world.reload()
    assert done.returncode == 1
    assert mistake in done.stderr
    assert "is refused, and what was served before stays" in done.stderr
    stands = world.stands
    assert (stands["generation"], stands["refused"][0] in done.stderr) == (before, True)
    shown = status(world.control).stdout
    assert f"{world.file} is refused, and what was served before stays" in shown
    assert "word=one" in world.menu
    world.put(world.text(word="again"))
    world.until(lambda: "word=again" in world.menu, "the file that is right again is not served")
    assert "is refused" not in status(world.control).stdout


def begun(host: Host, *argv: str) -> "subprocess.Popen[str]":
    """Start a client that says when it is in the middle, and waits there for a line."""
    process = host.popen(*argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    if process.stdout.readline() != "begun\n":
        raise CommandFailed(1, argv, *process.communicate(timeout=60))
    return process


def ended(process: "subprocess.Popen[str]") -> str:
    """Let it go on, and return its last word."""
    said, trouble = process.communicate("\n", timeout=180)
    assert process.returncode == 0, trouble
    return said.strip()


def test_transfers_go_on_with_the_bytes_that_they_began_with(world: World) -> None:
    client, digest = world.segment.client, world.image.squashfs_sha256
    try:
        client.run("/usr/bin/python3", "-c", "import nbd", env={**os.environ, "PYTHONSAFEPATH": "1"})
    except CommandFailed:
        lacking("needs python3-libnbd")
    download = begun(client, sys.executable, "-c", HTTP, SERVER, "images/node/root.squashfs")
    blocks = begun(client, sys.executable, "-c", TFTP, SERVER, "images/node/root.squashfs")
    disk = begun(client, "/usr/bin/env", "PYTHONSAFEPATH=1", "/usr/bin/python3", "-c", NBD, SERVER, "node")
    images = {"other": {"path": str(world.folder / "others/other")}}
    world.serve(image="other", images=images, tftp={"blksize": 512, "windowsize": 1}, http={"downloads": 1},
                nbd={"access": "known"}, word="while")  # fmt: skip
    assert f"images/{world.other.image_id}/vmlinuz" in world.menu
    assert ended(blocks) == digest
    assert ended(disk) == digest
    assert ended(download) == digest
    # A machine that has its menu already boots what that says, though the farm has the image no more.
    assert http(client, f"images/{world.image.image_id}/vmlinuz")[0] == 200
    assert http(client, "images/node/vmlinuz")[0] == 404


def test_a_machine_that_is_given_another_address_keeps_its_own_until_it_renews(world: World) -> None:
    client = world.segment.client
    try:
        assert get_lease(client) == IP
        world.serve(ip=OTHER_IP, word="moved")
        assert "word=moved" in world.menu, "it is known by the address that it was told"
        leases = json.loads(
            subprocess.run(
                [sys.executable, "-m", "pxeboot", "leases", "--control", str(world.control), "--json"],
                capture_output=True, text=True, check=True, timeout=90,
            ).stdout
        )  # fmt: skip
        assert IP in json.dumps(leases), "nobody else gets it before its lease is over"
        answer = client.run(sys.executable, "-c", RENEW, IP, SERVER, MAC).stdout.strip()
        assert answer == "6", "a DHCPNAK: it asks anew"
        assert get_lease(client) == OTHER_IP
        world.serve(word="back")
        assert get_lease(client) == IP
    finally:
        client.run("ip", "address", "flush", "dev", "eth0")
        client.run("ip", "address", "replace", f"{IP}/24", "dev", "eth0")


def test_an_interface_that_the_file_names_is_served_and_one_that_it_does_not_is_not(world: World) -> None:
    server = world.segment.server
    server.run("ip", "link", "add", "eth2", "type", "veth", "peer", "name", "far")
    server.run("ip", "link", "set", "far", "up")
    server.run("ip", "address", "add", "10.88.0.1/24", "dev", "eth2")
    server.run("ip", "link", "set", "eth2", "up")
    settings = yaml.safe_load(world.text())["server"]
    world.serve(server={**settings, "interfaces": ["eth1", "eth2", "eth9"]})
    world.until(lambda: "dhcp serves 10.88.0.1 on eth2" in world.daemon.log, "eth2 is not served")
    world.until(lambda: "waiting for eth9: there is no such interface" in world.daemon.log, "eth9 is not waited for")
    world.until(lambda: "eth9" in status(world.control).stdout, "eth9 is not shown")
    # Other sockets of this interface are bound, too: a second daemon could not take them.
    for port in ("%eth2:67", "%eth2:80"):
        world.until(lambda: port in server.run("ss", "-Hltun").stdout, f"{port} is not bound")  # noqa: B023
    world.serve()
    world.until(lambda: "%eth2:" not in server.run("ss", "-Hltun").stdout, "eth2 is still served")
    world.until(lambda: "eth2 is not in the farm any more" in world.daemon.log, "it is not told")
    assert "word=one" in world.menu


def test_no_client_is_lost_while_a_farm_with_100_000_leases_changes_again_and_again(
    grub: Path, tmp_path: Path
) -> None:
    subnets = [{"subnet": "10.77.0.0/24"}, {"subnet": "10.96.0.0/14", "pool": "10.96.1.0-10.99.8.255"}]
    book, patience_s = tmp_path / "clients", 5.0
    (tmp_path / "state").mkdir()
    leases = tmp_path / "state/leases"
    store_leases(leases, "10.96.1.0")
    with Segment() as segment:
        for host, address in ((segment.server, "10.99.0.1/14"), (segment.client, "10.99.255.254/14")):
            host.run("ip", "address", "add", address, "dev", host.interface)
        world = World(segment, tmp_path, grub)
        world.serve(dhcp={"subnets": subnets})
        argv = ["tests.support.dhcp_load", "10.99.0.1", "10.99.255.254", str(book), "--clients", "800"]
        argv += ["--rate", "200", "--window", "800", "--seconds", "120", "--repeat", str(patience_s)]
        load = segment.client.popen(sys.executable, "-m", *argv, stdout=subprocess.PIPE)
        reloads = 0
        while load.poll() is None:
            reloads += 1
            world.serve(dhcp={"subnets": subnets, "lease_s": 3600 + reloads}, word=str(reloads))
        said, _ = load.communicate(timeout=120)
        assert world.daemon.process.poll() is None, world.daemon.log
        world.daemon.stop()
    assert int(said.split()[0]) == 800, "every client has its lease"
    assert reloads, "it changed meanwhile; several times, on any but the busiest machine"
    lines = [line.split() for line in book.read_text().splitlines()]
    given = {line[0]: line[1] for line in lines}
    assert len(set(given.values())) == len(given) == 800, "and nobody else's"
    assert len(journal.read(leases.read_bytes(), leases).leases) == 100_800, "of those who had one, too"
    took = sorted(float(line[3]) for line in lines)
    print(f"{reloads} changes, 800 exchanges: 99 % in {took[int(len(took) * 0.99)] * 1e3:.1f} ms")
    assert took[-1] < patience_s, "nobody had to repeat himself: nothing was lost"


def test_the_daemon_says_which_machines_another_file_would_change(world: World) -> None:
    other = world.folder / "other.yaml"
    other.write_text(world.text(image="other", word="next", node={"root_password_hash": "$6$secret"}))
    argv = [sys.executable, "-m", "pxeboot", "check", str(other), "--diff"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "at their next boot 1 machine will get something else"
    for line in ("image: node -> other", "kernel parameters: word=one -> word=next", "root password: it is new", "m1"):
        assert f"    {line}" in lines
    assert "$6$" not in done.stdout
    same = world.folder / "same.yaml"
    same.write_text(world.text())
    done = subprocess.run([*argv[:4], str(same), "--diff"], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout == f"nothing changes: it says the same as what is served at {world.control}\n"


def test_a_terminal_that_hangs_up_ends_a_daemon_that_was_started_on_it(grub: Path, tmp_path: Path) -> None:
    with Segment() as segment:
        shutil.copytree(grub, tmp_path / "state/boot")
        farm = tmp_path / "farm.yaml"
        server = {"interfaces": ["eth1"], "state": str(tmp_path / "state"), "control": str(tmp_path / "sock")}
        farm.write_text(yaml.safe_dump({"server": server, "dhcp": {"subnets": [{"subnet": "10.77.0.0/24"}]}}))
        argv = segment.server.argv(sys.executable, "-m", "pxeboot", "serve", "--config", str(farm))
        pid, terminal = pty.fork()
        if pid == 0:
            os.execvp(argv[0], argv)
        try:
            text = b""
            while b"ready in" not in text:
                text += os.read(terminal, 4096)
            os.kill(pid, signal.SIGHUP)  # somebody has the file read again
            deadline = time.monotonic() + 3
            while time.monotonic() < deadline:
                assert os.waitpid(pid, os.WNOHANG) == (0, 0), text
                time.sleep(0.2)
        finally:
            os.close(terminal)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
