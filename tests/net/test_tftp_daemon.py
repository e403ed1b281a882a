"""TFTP as the whole daemon serves it: the farm's settings, misses, and a folder of static files that hangs."""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.net.test_tftp_clients import EDK2_OLD, PROBE
from tests.net.test_tftp_faults import mounted
from tests.support.segment import Host, Segment, lacking, requires
from tests.support.served import MAC, SERVER, Daemon, Prepared, get_lease, make_grub, status_json, tftp
from tests.support.wires import bring_up, second_wire

pytestmark = pytest.mark.net

MISSES = (
    "autoexec.ipxe",
    "grub/x86_64-efi/nothing.lst",
    "grub/i386-pc/fs.lst",
    "grub/grub.cfg-01-02-00-00-00-00-99",
    "grub/grub.cfg-0A4D000A",
    "pxelinux.cfg/0A4D000A",
    "pxelinux.cfg/default",
    "bootx64.efi",
)

AUTOEXEC = b"\0\1autoexec.ipxe\0octet\0".hex()

TIMED = """
import json, socket, sys, time
took = {}
for name in sys.argv[2:]:
    times = []
    for _ in range(21):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(60)
            begun = time.perf_counter()
            sock.sendto(b"\\0\\1" + name.encode() + b"\\0octet\\0", (sys.argv[1], 69))
            data, sender = sock.recvfrom(2000)
            times.append(time.perf_counter() - begun)
            if data[:2] == b"\\0\\3":
                sock.sendto(b"\\0\\4\\0\\1", sender)
    took[name] = (sorted(times)[10], data.hex())
print(json.dumps(took))
"""


@pytest.fixture(scope="module")
def grub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GRUB's images, made once."""
    if not all(map(shutil.which, ("grub-mknetdir", "ip"))) or os.geteuid() != 0:
        lacking("needs root, ip and grub-mknetdir")
    return make_grub(tmp_path_factory.mktemp("grub"))


@pytest.fixture
def node() -> Iterator[tuple[Segment, Host]]:
    with Segment(client_address="10.77.0.50/24") as segment:
        yield segment, segment.host(mac=MAC)


@requires("ip")
def test_the_daemon_grants_what_the_farm_says(grub: Path, tmp_path: Path, node: tuple[Segment, Host]) -> None:
    segment, host = node
    prepared = Prepared(tmp_path, grub, tftp={"single_port": True, "blksize": 1024, "windowsize": 2})
    Daemon(segment.server, tmp_path, "-c", str(prepared.configuration))
    get_lease(host)
    asked = EDK2_OLD.replace(b"bootx64.efi".hex(), b"grub/x86_64-efi/core.efi".hex())
    probe = PROBE.replace("sender[0]", "sender[1]")
    answer, port = host.run(sys.executable, "-c", probe, SERVER, asked).stdout.split()
    words = bytes.fromhex(answer)[2:].split(b"\0")
    assert dict(zip(words[::2], words[1::2], strict=False))[b"blksize"] == b"1024"
    assert port == "69"
    assert tftp(host, "grub/x86_64-efi/core.efi") == (tmp_path / "state/boot" / own_image(tmp_path)).read_bytes()


def own_image(folder: Path) -> Path:
    """Return the network image that was made for the address of the server."""
    found = [path for path in (folder / "state/boot").rglob("core*.efi") if SERVER.encode() in path.read_bytes()]
    return found[0] if found else folder


@requires("ip", "curl")
def test_what_boot_loaders_ask_for_in_vain_is_answered_at_once(
    grub: Path, tmp_path: Path, node: tuple[Segment, Host]
) -> None:
    """An empty list, an error for all others; how long that takes is printed (scenario 24)."""
    segment, host = node
    prepared = Prepared(tmp_path, grub)
    Daemon(segment.server, tmp_path, "-c", str(prepared.configuration))
    get_lease(host)
    took = json.loads(host.run(sys.executable, "-c", TIMED, SERVER, *MISSES).stdout)
    for name, (median_s, answer) in took.items():
        print(f"{1000 * median_s:6.2f} ms {name}")
        assert bytes.fromhex(answer) == (b"\0\3\0\1" if name.endswith(".lst") else b"\0\5\0\1file not found\0"), name


@requires("ip", "curl", "nbdfuse", "nbdkit", "umount")
def test_static_files_on_a_disk_that_hangs_keep_nobody_from_booting(
    grub: Path, tmp_path: Path, node: tuple[Segment, Host]
) -> None:
    segment, host = node
    files = tmp_path / "files"
    files.mkdir()
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    prepared = Prepared(tmp_path, grub)
    text = prepared.configuration.read_text()
    prepared.configuration.write_text(text.replace("server:\n", f"server:\n  files: {files}\n", 1))
    with mounted(tmp_path / "disk", files / "hanging.iso") as disk:
        daemon = Daemon(segment.server, tmp_path, "-c", str(prepared.configuration))
        try:
            get_lease(host)
            disk.send_signal(signal.SIGSTOP)
            asking = [
                segment.client.popen("curl", "-sS", "-m", "80", "-o", "/dev/null", f"tftp://{SERVER}/hanging.iso")
                for _ in range(6)
            ]
            names = ("grub/grub.cfg", "lts.conf", "images/nothing/vmlinuz")
            took = json.loads(host.run(sys.executable, "-c", TIMED, SERVER, *names).stdout)
            print({name: f"{1000 * median_s:.2f} ms" for name, (median_s, _) in took.items()})
            assert get_lease(host)
            # Nobody knows whether that is on the disk, but iPXE would wait for ever.
            answer, _ = host.run(sys.executable, "-c", PROBE, SERVER, AUTOEXEC).stdout.split()
            assert bytes.fromhex(answer) == b"\0\5\0\0busy, try again\0"
            for process in asking:
                process.terminate()
        finally:
            disk.send_signal(signal.SIGCONT)
            daemon.stop()


@requires("ip", "prlimit")
def test_the_interfaces_have_between_them_what_the_process_may_open(
    grub: Path, tmp_path: Path, node: tuple[Segment, Host]
) -> None:
    segment, _ = node
    second_wire(segment)
    bring_up(segment.server, "eth2", "10.78.0.1/24")
    server = {
        "interfaces": ["eth1", "eth2"],
        "state": str(tmp_path / "state"),
        "control": str(tmp_path / "control.sock"),
    }
    prepared = Prepared(tmp_path, grub, server=server)
    limit = ("prlimit", "--nofile=1200:1200")
    daemon = Daemon(segment.server, tmp_path, "-c", str(prepared.configuration), before=limit)
    try:
        whole = status_json(prepared.control)
        assert whole["dhcp"]["serves"] == ["eth1", "eth2"]
        assert whole["tftp"] == {"running": 0, "at_most": 100, "counts": {}}  # a quarter of them, three for each
        segment.server.run("ip", "link", "delete", "eth2")
        deadline = time.monotonic() + 90
        while status_json(prepared.control)["dhcp"]["serves"] != ["eth1"]:
            assert time.monotonic() < deadline
        assert status_json(prepared.control)["tftp"]["at_most"] == 100
    finally:
        daemon.stop()
