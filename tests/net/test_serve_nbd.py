"""The daemon's NBD exports, as real clients get them: whose root is whose, which version, and until when."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pxeboot.image.store import StoredImage
from tests.support.certificates import Authority
from tests.support.fake_image import add_image, noise
from tests.support.segment import Host, Segment, lacking, requires
from tests.support.served import IP, MAC, SERVER, Daemon, Prepared, get_lease, http, make_grub, status, status_json
from tests.support.waiting import until

pytestmark = pytest.mark.net

PROGRAMS = ("grub-mknetdir", "ip", "curl", "busybox", "nbdinfo", "nbdcopy", "/usr/bin/python3")

WRITER, WRITER_IP = "52:54:00:00:00:0b", "10.77.0.11"
RAM, RAM_IP = "52:54:00:00:00:0c", "10.77.0.12"
SIZE = 1 << 20
DISK = 1 << 20

READER = """
import hashlib, sys
import nbd
def read(what):
    handle = nbd.NBD()
    handle.connect_uri(what)
    return handle, handle.pread(64, 0).hex()
uri = sys.argv[1]
handle, head = read(uri)
print(head, flush=True)
for line in sys.stdin:
    match line.split():
        case ["rest"]:
            print(hashlib.sha256(handle.pread(handle.get_size(), 0)).hexdigest(), flush=True)
        case ["write", text]:
            handle.pwrite(text.encode(), 0)
            handle.flush()
            print("written", flush=True)
        case ["again", other]:
            handle, head = read(other)
            print(head, flush=True)
"""


class Reader:
    """libnbd on a host, told line by line what to do."""

    def __init__(self, host: Host, export: str) -> None:
        self._process = host.popen(
            "/usr/bin/python3", "-c", READER, uri(export), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONSAFEPATH": "1"}, cwd="/",
        )  # fmt: skip
        self.head = self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return str(self._process.stdout.readline().strip())

    def __call__(self, *words: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(words) + "\n")
        self._process.stdin.flush()
        return self._line()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(90) == 0


class Farm:
    """A daemon; m1 reads its root by NBD, w1 writes to it, and a stranger has only an address."""

    def __init__(
        self, segment: Segment, folder: Path, grub: Path, names: Sequence[str] = ("both", "node"), **nbd: Any
    ) -> None:
        self.folder = folder
        self.one = add_image(folder / "images", "both", "one", SIZE, DISK)
        pools = [
            {"name": "workers", "image": "both", "root": "nbd", "nodes": [{"name": "m1", "macs": [MAC], "ip": IP}]},
            {
                "name": "writers",
                "image": "both",
                "root": "nbd",
                "writable": {"where": "file", "limit_mib": 2},
                "nodes": [{"name": "w1", "macs": [WRITER], "ip": WRITER_IP}],
            },
            {
                "name": "rams",
                "image": "both",
                "root": "nbd-to-ram",
                "nodes": [{"name": "r1", "macs": [RAM], "ip": RAM_IP}],
            },
        ]
        images = {name: {"path": str(folder / "images" / name)} for name in names}
        self.prepared = Prepared(folder, grub, images=images, pools=pools, nbd=nbd)
        self.segment = segment
        self.daemon = self.start()
        self.m1, self.w1 = segment.host(mac=MAC), segment.host(mac=WRITER)
        assert (get_lease(self.m1), get_lease(self.w1)) == (IP, WRITER_IP)

    def start(self) -> Daemon:
        self.daemon = Daemon(self.segment.server, self.folder, "-c", str(self.prepared.configuration))
        return self.daemon

    def switch(self) -> StoredImage:
        """Point `both` to another version."""
        return add_image(self.folder / "images", "both", "two", SIZE, DISK)

    def nbd(self) -> Any:
        return status_json(self.prepared.control)["nbd"]

    def failures(self, name: str) -> list[str]:
        steps = status_json(self.prepared.control, name)["boot"]["steps"]
        return [step["detail"] for step in steps if step["stage"] == "failed"]

    def image(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run `pxeboot image`."""
        more = ["--store", str(self.folder / "images"), "--control", str(self.prepared.control)]
        command = [sys.executable, "-m", "pxeboot", "image", *argv, *more]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def grub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GRUB's images, made once."""
    if not all(map(shutil.which, PROGRAMS)) or os.geteuid() != 0:
        lacking(f"needs root and {', '.join(PROGRAMS)}")
    return make_grub(tmp_path_factory.mktemp("grub"))


@pytest.fixture
def farm(segment: Segment, tmp_path: Path, grub: Path) -> Iterator[Farm]:
    yield (made := Farm(segment, tmp_path, grub))
    assert "Traceback" not in made.daemon.log


def uri(export: str) -> str:
    return f"nbd://{SERVER}/{export}"


def boot(host: Host, mac: str) -> str:
    """Ask what to boot, as GRUB does."""
    code, text = http(host, f"grub/grub.cfg-01-{mac.replace(':', '-')}")
    assert code == 200
    return text.decode()


def info(host: Host, export: str) -> dict[str, Any] | None:
    """Return what nbdinfo says of an export; None if there is none."""
    said = host.run("nbdinfo", "--json", uri(export), check=False)
    if said.returncode:
        return None
    found: dict[str, Any] = json.loads(said.stdout)["exports"][0]
    return found


def listed(host: Host) -> list[str]:
    said = host.run("nbdinfo", "--list", "--json", uri(""), check=False)
    return [export["export-name"] for export in json.loads(said.stdout)["exports"]] if said.stdout else []


def copied(host: Host, export: str) -> str:
    """Return the sha256 of what nbdcopy gets."""
    script = f"nbdcopy '{uri(export)}' - | sha256sum"
    return host.run("bash", "-o", "pipefail", "-c", script).stdout.split()[0]


def head(image: str, file: str = "root.squashfs") -> str:
    return noise(f"{file} {image}", 64).hex()


def sha256_of(image: StoredImage, file: str = "root.squashfs") -> str:
    return hashlib.sha256((image.folder / file).read_bytes()).hexdigest()


def test_images_have_their_names_and_their_sha256_and_a_machine_has_its_root_once_it_boots(farm: Farm) -> None:
    assert listed(farm.m1) == ["both", "node"]
    assert info(farm.m1, "node/m1") is None
    assert f"images/{farm.one.image_id}/vmlinuz" in boot(farm.m1, MAC)
    assert listed(farm.m1) == ["both", "node", "node/m1"]
    assert listed(farm.w1) == ["both", "node"]
    for name in ("both", farm.one.image_id, "node/m1"):
        found = info(farm.m1, name)
        assert found is not None
        assert (found["export-size"], found["is_read_only"]) == (SIZE, True)
        assert copied(farm.m1, name) == sha256_of(farm.one)
    assert info(farm.m1, "both")["description"] == f"image both {farm.one.image_id[:12]}, 1.0 MB, read-only"  # type: ignore[index]
    assert info(farm.m1, "") is None, "there are two images"


def test_the_root_of_a_machine_is_for_nobody_else_and_who_asks_has_that_in_its_timeline(farm: Farm) -> None:
    boot(farm.m1, MAC)
    assert info(farm.w1, "node/m1") is None
    assert farm.failures("w1") == ["NBD export 'node/m1': it is for that machine alone"]
    farm.m1.run("nbdcopy", uri("nothing"), "null:", check=False)
    assert farm.failures("m1") == ["NBD export 'nothing': there is no such image"]
    told = [line for line in farm.daemon.log.splitlines() if "'nothing'" in line]
    assert len(told) == 1, told
    assert "m1: NBD export 'nothing': there is no such image" in told[0]


def test_a_new_version_changes_nothing_for_a_machine_that_runs(farm: Farm) -> None:
    boot(farm.m1, MAC)
    readers = [Reader(farm.m1, name) for name in ("node/m1", farm.one.image_id, "both")]
    two = farm.switch()
    for reader in readers:
        assert reader.head == head("one")
        assert reader("rest") == sha256_of(farm.one), "to its end"
    assert [reader("again", uri("node/m1")) for reader in readers] == [head("one")] * 3
    assert readers[0]("again", uri(farm.one.image_id)) == head("one")
    assert readers[0]("again", uri("both")) == head("two")
    boot(farm.m1, MAC)
    assert readers[0]("again", uri("node/m1")) == head("two"), "it boots anew"
    assert copied(farm.m1, "node/m1") == sha256_of(two)
    for reader in readers:
        reader.close()


def test_a_server_that_was_killed_knows_what_each_machine_booted(farm: Farm) -> None:
    boot(farm.m1, MAC)
    boot(farm.w1, WRITER)
    writer = Reader(farm.w1, "node/w1")
    assert writer.head == head("one", "root.ext4")
    assert writer("write", "written-before") == "written"
    farm.switch()
    farm.daemon.process.kill()
    farm.daemon.process.wait(90)
    with (farm.folder / "state/pins").open("a") as pins:
        pins.write('{"machine": "m3", "im')
    farm.start()
    assert "pins: 1 lines are damaged and left out" in farm.daemon.log
    assert copied(farm.m1, "node/m1") == sha256_of(farm.one)
    again = Reader(farm.w1, "node/w1")
    assert bytes.fromhex(again.head).startswith(b"written-before"), "it is in a file, and this is the same boot"
    again.close()
    boot(farm.w1, WRITER)
    fresh = Reader(farm.w1, "node/w1")
    assert fresh.head == head("two", "root.ext4"), "a new boot is another version, and a fresh disk"
    fresh.close()


def test_what_a_machine_writes_is_its_own(farm: Farm) -> None:
    boot(farm.w1, WRITER)
    first, second = Reader(farm.w1, "node/w1"), Reader(farm.w1, "node/w1")
    assert first("write", "hello") == "written"
    assert bytes.fromhex(second("again", uri("node/w1"))).startswith(b"hello")
    assert info(farm.w1, "node/w1")["is_read_only"] is False  # type: ignore[index]
    assert info(farm.w1, farm.one.image_id)["is_read_only"] is True  # type: ignore[index]
    assert sha256_of(farm.one, "root.ext4") == farm.one.sums["root.ext4"]
    (disk,) = farm.nbd()["disks"]
    assert (disk["machine"], disk["id"], disk["where"]) == ("w1", farm.one.image_id, "file")
    assert 0 < disk["changed_bytes"] <= 4096 * 2
    first.close()
    second.close()


def test_people_see_who_reads_what(farm: Farm) -> None:
    boot(farm.m1, MAC)
    reader = Reader(farm.m1, "node/m1")
    reader("rest")
    until(lambda: farm.nbd()["connections"][0]["read_bytes"] >= SIZE, "what it read is counted")
    known = farm.nbd()
    (connection,) = known["connections"]
    assert {key: connection[key] for key in ("machine", "address", "export", "id", "writable", "tls")} == {
        "machine": "m1", "address": IP, "export": "node/m1", "id": farm.one.image_id, "writable": False, "tls": False,
    }  # fmt: skip
    assert connection["read_bytes"] >= SIZE
    assert connection["reads"] >= 2
    (pin,) = known["pins"]
    assert (pin["machine"], pin["image"], pin["id"], pin["writable"]) == ("m1", "both", farm.one.image_id, None)
    root = f"root: image both {farm.one.image_id[:12]} by NBD"
    assert f"{root}, connected" in status(farm.prepared.control, "m1").stdout
    assert "1 machine booted from NBD, 1 of them connected" in status(farm.prepared.control).stdout
    reader.close()
    until(lambda: not farm.nbd()["connections"], "it is seen to have gone")
    assert f"{root}, not connected now" in status(farm.prepared.control, "m1").stdout


def test_an_image_is_removed_once_nobody_uses_it(farm: Farm) -> None:
    short = farm.one.image_id[:16]
    boot(farm.m1, MAC)
    reader = Reader(farm.m1, "both")
    said = farm.image("remove", "both")
    assert said.returncode == 1
    assert f"{short} stays: m1 reads it by NBD as 'both', the farm's file has it as its image both" in said.stderr
    two = farm.switch()
    said = farm.image("prune")
    assert (said.returncode, said.stdout) == (0, f"{short} stays: m1 reads it by NBD as 'both'\n")
    reader.close()
    until(lambda: not farm.nbd()["connections"], "it is seen to have gone")
    said = farm.image("remove", short)
    assert (said.returncode, f"{short} stays: m1 booted it" in said.stderr) == (1, True)
    assert copied(farm.m1, "node/m1") == sha256_of(farm.one), "it was aside for a moment at most"
    boot(farm.m1, MAC)
    said = farm.image("remove", short)
    assert (said.returncode, said.stdout) == (0, f"removed: version {short}\n"), said.stderr
    assert not farm.one.folder.exists()
    assert copied(farm.m1, "node/m1") == sha256_of(two)


def test_a_machine_whose_image_is_gone_is_refused_and_told_of(farm: Farm) -> None:
    boot(farm.m1, MAC)
    farm.switch()
    said = farm.image("remove", farm.one.image_id, "--force")
    assert said.returncode == 0
    assert f"{farm.one.image_id[:16]} goes although m1 booted it" in said.stderr
    assert farm.m1.run("nbdcopy", uri("node/m1"), "null:", check=False).returncode != 0
    gone = f"the image both {farm.one.image_id[:12]}, which it booted, is not in the store any more"
    assert farm.failures("m1") == [f"NBD export 'node/m1': {gone}"]
    assert f"m1: NBD export 'node/m1': {gone}" in farm.daemon.log


def test_a_machine_that_has_its_root_in_ram_needs_the_image_no_more(farm: Farm) -> None:
    r1 = farm.segment.host(mac=RAM)
    assert get_lease(r1) == RAM_IP
    boot(r1, RAM)
    farm.switch()
    said = farm.image("prune")
    assert said.stdout == f"{farm.one.image_id[:16]} stays: r1 booted it\n"
    assert http(r1, "report/root", "--data", "the root is mounted")[0] < 300
    until(lambda: farm.nbd()["pins"] == [], "it needs its image no more")
    assert farm.image("prune").stdout == f"removed: version {farm.one.image_id[:16]}\n"


def test_without_a_daemon_nothing_is_removed_unless_it_is_forced(farm: Farm) -> None:
    farm.switch()
    farm.daemon.stop()
    said = farm.image("remove", farm.one.image_id)
    assert said.returncode == 1
    assert "no daemon" in said.stderr
    assert "--force removes it all the same" in said.stderr
    assert farm.one.folder.exists()
    assert farm.image("prune", "--force").returncode == 0
    assert not farm.one.folder.exists()


def test_addresses_that_nobody_has_from_us_get_nothing_where_the_farm_says_so(
    segment: Segment, tmp_path: Path, grub: Path
) -> None:
    farm = Farm(segment, tmp_path, grub, access="known", default="both")
    stranger = segment.host(address="10.77.0.60/24", mac="52:54:00:00:00:60")
    guest = segment.host(mac="52:54:00:00:00:61")
    get_lease(guest)
    assert (listed(stranger), info(stranger, "both"), info(stranger, farm.one.image_id)) == ([], None, None)
    for host in (farm.m1, guest):
        assert listed(host) == ["both", "node"]
        assert copied(host, "") == sha256_of(farm.one)
    neighbour = segment.host(address=f"{IP}0/24", mac="52:54:00:00:00:62")
    assert info(neighbour, "both") is None, "10.77.0.10 is known, and 10.77.0.100 is not"


def test_a_root_that_is_to_be_writable_needs_an_image_with_a_disk(
    segment: Segment, tmp_path: Path, grub: Path
) -> None:
    farm = Farm(segment, tmp_path, grub)
    plain = add_image(tmp_path / "images", "both", "plain", SIZE)
    assert plain.image_id not in (menu := boot(farm.w1, WRITER))
    assert "w1 is to write to its root, and its image both has none for that (root.ext4)" in menu
    assert farm.failures("w1") == ["its root is to be writable, and the image both has no root.ext4"]
    farm.daemon.stop()
    farm.start()
    assert "machines of pool writers will not boot: their roots are to be writable" in farm.daemon.log


@requires("openssl")
def test_what_is_for_tls_only_is_served_with_tls_only(segment: Segment, tmp_path: Path, grub: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.sign("server")
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    shutil.copy(authority.certificate, trusted / "ca-cert.pem")
    add_image(tmp_path / "images", "secret", "two", SIZE)
    tls = {"certificate": str(certificate), "key": str(key), "mode": "offered", "only": ["secret"]}
    farm = Farm(segment, tmp_path, grub, ("both", "node", "secret"), tls=tls)
    assert listed(farm.m1) == ["both", "node"]
    assert copied(farm.m1, "node") == sha256_of(farm.prepared.image)
    assert info(farm.m1, "secret") is None
    secure = f"nbds://{SERVER}/secret?tls-certificates={trusted}"
    assert f"{SIZE}" in farm.m1.run("nbdinfo", "--size", secure).stdout
