"""More machines want the image than there are slots: curl and a machine's own script against the whole daemon."""

import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.initramfs import busybox_root, inside
from tests.support.segment import Host, Segment, lacking, requires
from tests.support.served import SERVER, Daemon, Prepared, http, make_grub, status, status_json

pytestmark = pytest.mark.net

SLOTS = 3
CLIENTS = 12
SLOW = range(230, 230 + SLOTS)
"""Machines of a subnet that may take 0.12 MB/s each: they hold the slots for as long as a test needs."""
SLOW_SUBNET = {"10.77.0.240/28": SLOTS}
IMAGE_BYTES = 20 << 20
PATIENCE_S = 180

DOWNLOAD = """\
. /mountroot
WGET_SAID=/wget
SERVER=http://{server} IMAGE_URL={url} SIZE={size}
give_up() {{ echo "gave up: $*"; exit 1; }}
download /root.squashfs
"""


@pytest.fixture(scope="module")
def grub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GRUB's images, made once."""
    if not all(map(shutil.which, ("grub-mknetdir", "ip", "curl"))) or os.geteuid() != 0:
        lacking("needs root, ip, curl and grub-mknetdir")
    return make_grub(tmp_path_factory.mktemp("grub"))


def address(number: int) -> str:
    return f"10.77.0.{10 + number}"


@dataclass
class Storm:
    """A daemon with few slots, and one host that has the addresses of all machines."""

    segment: Segment
    prepared: Prepared
    daemon: Daemon
    folder: Path

    @property
    def host(self) -> Host:
        return self.segment.client

    @property
    def name(self) -> str:
        """The image's name in the tree."""
        return f"images/{self.prepared.image.image_id}/root.squashfs"

    def curl(self, number: int, *options: str) -> subprocess.Popen[str]:
        """Let machine `number` fetch the image with curl. What it complains of is in `complaints`."""
        argv = [
            "curl",
            "--no-progress-meter",
            "-f",
            "--interface",
            address(number),
            "-o",
            str(self.folder / f"{number}"),
        ]
        with (self.folder / f"{number}.err").open("a") as complaints:
            return self.host.popen(*argv, *options, f"http://{SERVER}/{self.name}", stderr=complaints)

    def complaints(self, number: int) -> str:
        return (self.folder / f"{number}.err").read_text()

    def digest(self, number: int) -> str:
        return hashlib.sha256((self.folder / f"{number}").read_bytes()).hexdigest()

    def hold_all_slots(self) -> list[subprocess.Popen[str]]:
        """Let machines fetch the image that get it slowly."""
        holding = [self.curl(n) for n in SLOW]
        wait_until(
            lambda: self.downloads() == {"running": SLOTS, "at_most": SLOTS, "crawling": 0, "waiting": 0},
            "no slot is free",
        )
        return holding

    @property
    def right_digest(self) -> str:
        return self.prepared.image.squashfs_sha256

    def downloads(self) -> Any:
        """What the daemon says of its slots."""
        return status_json(self.prepared.control)["downloads"]

    def paces(self) -> dict[str, str]:
        """The most that the kernel sends to each machine, in bit/s."""
        lines = self.segment.server.run("ss", "-tinHO", "state", "established", "sport", "=", "80").stdout.splitlines()
        found = {}
        for line in lines:
            peer = re.findall(r"(10\.77\.0\.\d+):\d+\s", line)[-1]
            rate = re.findall(r"pacing_rate \d+bps/(\d+)bps", line)
            found[peer] = rate[0] if rate else "none"
        return found

    def waiting(self) -> dict[str, str]:
        """The machines that are shown as waiting, and what is said of them."""
        machines = status_json(self.prepared.control)["machines"]
        steps = {machine["name"]: machine["boot"]["steps"][-1] for machine in machines}
        return {name: step["detail"] for name, step in steps.items() if step["stage"] == "waiting"}


@pytest.fixture
def storm(request: pytest.FixtureRequest, grub: Path, tmp_path: Path) -> Iterator[Storm]:
    with Segment(client_address="10.77.0.9/24") as segment:
        nodes = [{"name": f"m{n}", "macs": [f"52:54:00:00:01:{n:02x}"], "ip": address(n)} for n in range(CLIENTS)]
        prepared = Prepared(
            tmp_path,
            grub,
            IMAGE_BYTES,
            pools=[{"name": "workers", "image": "node", "cluster": "prod", "nodes": nodes}],
            http={"downloads": SLOTS, **getattr(request, "param", {"subnet_rates_mbit_s": SLOW_SUBNET})},
        )
        addresses = "\n".join(f"address add {address(n)}/24 dev eth0" for n in (*range(CLIENTS), *SLOW))
        segment.client.run("ip", "-batch", "-", text_in=addresses)
        daemon = Daemon(segment.server, tmp_path, "-c", str(prepared.configuration))
        yield Storm(segment, prepared, daemon, tmp_path)
        daemon.stop()
        assert "Traceback" not in daemon.log


def release(holding: list[subprocess.Popen[str]]) -> None:
    for one in holding:
        one.terminate()
        one.wait()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.05)


@pytest.mark.parametrize("storm", [{"rate_mbit_s": 400, "subnet_rates_mbit_s": SLOW_SUBNET}], indirect=True)
def test_all_get_the_whole_image_a_few_at_a_time_and_small_files_never_wait(storm: Storm) -> None:
    holding = storm.hold_all_slots()
    curls = [storm.curl(n, "--retry", "100") for n in range(CLIENTS)]
    wait_until(
        lambda: storm.downloads() == {"running": SLOTS, "at_most": SLOTS, "crawling": 0, "waiting": CLIENTS}, "a queue"
    )
    places = [re.findall(r"waits for its turn: (\d+) before it, asks", text)[0] for text in storm.waiting().values()]
    assert sorted(map(int, places)) == list(range(CLIENTS))
    said = f"{SLOTS} of at most {SLOTS} root images are being sent; {CLIENTS} machines wait for a turn"
    assert said in status(storm.prepared.control).stdout

    assert http(storm.host, f"images/{storm.prepared.image.image_id}/vmlinuz")[0] == 200
    assert http(storm.host, storm.name, "-I")[0] == 200, "HEAD never waits"
    assert http(storm.host, storm.name, "-r", "0-99999")[0] == 206, "a small range never waits"
    assert http(storm.host, storm.name, "-H", f'If-None-Match: "{storm.right_digest}"')[0] == 304
    assert storm.downloads()["running"] == SLOTS, "all that was in the middle of it"

    release(holding)
    most = 0
    while any(curl.poll() is None for curl in curls):
        most = max(most, storm.downloads()["running"])
    assert [curl.wait() for curl in curls] == [0] * CLIENTS
    assert most <= SLOTS
    assert {storm.digest(n) for n in range(CLIENTS)} == {storm.right_digest}
    wait_until(lambda: storm.waiting() == {}, "nobody is shown as waiting")


def test_curl_waits_as_long_as_it_is_told(storm: Storm) -> None:
    holding = storm.hold_all_slots()
    code, body = http(storm.host, storm.name, "-i", "--interface", address(SLOTS))
    assert code == 503
    (seconds,) = re.findall(rb"\r\nRetry-After: (\d+)\r\n", body)
    assert 1 <= int(seconds) <= 30
    assert body.startswith(b"HTTP/1.1 503 Service Unavailable, Retry-After: " + seconds + b"\r\n")
    curl = storm.curl(SLOTS, "--retry", "100", "-D", str(storm.folder / "head"))
    wait_until(lambda: "retry in" in storm.complaints(SLOTS), "curl says what it will do")
    told = re.findall(r"\nRetry-After: (\d+)", (storm.folder / "head").read_text())
    assert f"Will retry in {told[0]} seconds" in storm.complaints(SLOTS)
    release(holding)
    assert curl.wait(timeout=PATIENCE_S) == 0
    assert storm.digest(SLOTS) == storm.right_digest


def test_a_download_that_broke_goes_on_before_those_that_have_not_begun(storm: Storm) -> None:
    holding = storm.hold_all_slots()
    for number in range(3, 6):
        assert http(storm.host, storm.name, "--interface", address(number))[0] == 503
    _, body = http(storm.host, storm.name, "--interface", address(6), "-r", "1000-")
    assert body.startswith(b"503 Service Unavailable: 0 before you")
    _, body = http(storm.host, storm.name, "--interface", address(3))
    assert body.startswith(b"503 Service Unavailable: 1 before you")
    release(holding)


@requires("busybox")
@pytest.mark.parametrize("shell", ["busybox", "dash"])
def test_a_machines_own_script_waits_for_its_turn_and_resumes(storm: Storm, shell: str) -> None:
    """node/mountroot with busybox's wget, as in a stock initrd. It has the beginning of the image already."""
    holding = storm.hold_all_slots()
    root = busybox_root(storm.folder / "initramfs", shell)
    shutil.copy(Path(__file__).parents[2] / "node/mountroot", root / "mountroot")
    image = (storm.prepared.image.folder / "root.squashfs").read_bytes()
    (root / "root.squashfs").write_bytes(image[: 1 << 20])
    url = f"http://{SERVER}/{storm.name}"
    script = DOWNLOAD.format(server=SERVER, url=url, size=len(image))
    machine = storm.host.popen(
        *inside(root, "/bin/sh", "-c", script), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    wait_until(lambda: storm.downloads()["waiting"] == 1, "the machine is told to wait")
    assert (root / "root.squashfs").stat().st_size == 1 << 20
    release(holding)
    said, _ = machine.communicate(timeout=PATIENCE_S)
    assert machine.returncode == 0, said
    assert re.search(r"^pxeboot: waiting: .* asking again in \d+ s$", said, re.MULTILINE)
    assert "connection lost" not in said
    assert (root / "root.squashfs").read_bytes() == image
    assert "from byte 1048576" in storm.daemon.log


RATES = {"rate_mbit_s": 8, "subnet_rates_mbit_s": {"10.77.0.11/32": 1}}


@requires("ss")
@pytest.mark.parametrize("storm", [RATES], indirect=True)
def test_the_kernel_paces_downloads_by_their_share(storm: Storm) -> None:
    """8 Mbit/s for all, so that an image takes twenty seconds; the second machine's subnet may have 1."""
    first = storm.curl(0)
    wait_until(lambda: storm.paces() == {address(0): "8000000"}, "alone, it may have all")
    second = storm.curl(1)
    wait_until(lambda: storm.paces() == {address(0): "7000000", address(1): "1000000"}, "a subnet's own rate")
    release([second])
    wait_until(lambda: storm.paces() == {address(0): "8000000"}, "what ended leaves its share")
    release([first])
    slow, fast = storm.curl(2, "--limit-rate", "50k"), storm.curl(0)

    def pace() -> int:
        said = storm.paces().get(address(0), "none")
        return int(said) if said.isdigit() else 0

    wait_until(lambda: 6_000_000 < pace() < 8_000_000, "what one cannot use is the other's")
    release([slow, fast])


@requires("ss")
@pytest.mark.parametrize("storm", [{}], indirect=True)
def test_without_a_rate_the_kernel_is_told_nothing(storm: Storm) -> None:
    curl = storm.curl(0, "--limit-rate", "1M")
    wait_until(lambda: storm.paces() == {address(0): "none"}, "it is on its way")
    release([curl])
