"""Other people's TFTP clients against the real transport, in a namespace, also over a line that loses packets."""

import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.segment import Segment, requires
from tests.support.tftp_server import Server, running
from tests.support.wires import bring_up, second_wire

pytestmark = pytest.mark.net

SERVER = "10.77.0.1"
FILE = random.Random(1).randbytes(2**20 + 77)
EXACT = random.Random(2).randbytes(512 * 100)
TEXT = b"one\ntwo\r\nthree\rfour\n" * 3000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tftp"
    (folder / "grub").mkdir(parents=True)
    (folder / "grub" / "core.efi").write_bytes(FILE)
    (folder / "exact").write_bytes(EXACT)
    (folder / "text").write_bytes(TEXT)
    return folder


@pytest.fixture
def segment() -> Iterator[Segment]:
    with Segment(client_address="10.77.0.2/24") as segment:
        yield segment


@pytest.fixture
def server(segment: Segment, folder: Path) -> Iterator[Server]:
    with running(folder, folder.parent / "log", segment.server.popen, port=69) as server:
        yield server


TFTPY = """
import sys, tftpy
tftpy.TftpClient(sys.argv[1], 69, {"blksize": 1428, "tsize": 0}).download(sys.argv[2], sys.argv[3], timeout=5)
"""


def command(client: str, name: str, to: Path) -> list[str]:
    """How `client` is told to fetch `name` from the server into the file `to`."""
    match client:
        case "tftp-hpa":
            return ["tftp", "-m", "binary", SERVER, "-c", "get", name, str(to)]
        case "tftp-hpa-netascii":
            return ["tftp", "-m", "netascii", SERVER, "-c", "get", name, str(to)]
        case "atftp":
            return ["atftp", "-g", "-r", name, "-l", str(to), SERVER]
        case "atftp-windows":
            options = ["--option", "blksize 1428", "--option", "windowsize 16", "--option", "tsize 0"]
            return ["atftp", *options, "-g", "-r", name, "-l", str(to), SERVER]
        case "curl":
            return ["curl", "-sS", "-o", str(to), f"tftp://{SERVER}/{name}"]
        case "curl-1428":
            return ["curl", "-sS", "--tftp-blksize", "1428", "-o", str(to), f"tftp://{SERVER}/{name}"]
        case "busybox":
            return ["busybox", "tftp", "-g", "-b", "1428", "-r", name, "-l", str(to), SERVER]
        case "tftpy":
            return [sys.executable, "-c", TFTPY, SERVER, name, str(to)]
        case _:
            raise ValueError(client)


CLIENTS = ["tftp-hpa", "atftp", "atftp-windows", "curl", "curl-1428", "busybox", "tftpy"]
PROGRAMS = ("tftp", "atftp", "curl", "busybox", "ip", "nft")


def fetch(segment: Segment, client: str, name: str, to: Path, timeout: float = 180) -> float:
    """Fetch a file and return how many seconds that took."""
    to.unlink(missing_ok=True)
    begun = time.monotonic()
    done = segment.client.run(*command(client, name, to), timeout=timeout, check=False)
    assert done.returncode == 0, (client, done.stdout, done.stderr)
    return time.monotonic() - begun


@requires(*PROGRAMS)
def test_every_client_gets_every_file_whole(segment: Segment, server: Server, tmp_path: Path) -> None:
    got = tmp_path / "got"
    for client in CLIENTS:
        for name, content in (("grub/core.efi", FILE), ("/grub//core.efi", FILE), ("exact", EXACT)):
            fetch(segment, client, name, got)
            assert got.read_bytes() == content, (client, name)
        assert server.said(f"got 'grub/core.efi': {len(FILE)} bytes in ")
    server.finished(3 * len(CLIENTS))
    counters = server.stop()
    resent = counters.pop("resent")
    counters.pop("duplicates", 0)  # of requests, when somebody was away
    assert counters.pop("bytes") >= len(CLIENTS) * (2 * len(FILE) + len(EXACT)), f"{resent} blocks were sent again"
    assert counters == {"complete": 3 * len(CLIENTS), "requests": 3 * len(CLIENTS), "descriptors": 0}


@requires(*PROGRAMS)
def test_text_as_netascii_is_the_text(segment: Segment, server: Server, tmp_path: Path) -> None:
    got = tmp_path / "got"
    fetch(segment, "tftp-hpa-netascii", "text", got)
    assert got.read_bytes() == TEXT


@requires(*PROGRAMS)
@pytest.mark.parametrize("percent", [1, 5])
def test_a_lossy_line_costs_seconds_and_no_byte(
    segment: Segment, server: Server, tmp_path: Path, percent: int
) -> None:
    segment.lose(percent)
    got, seconds = tmp_path / "got", {}
    for client in ("curl-1428", "busybox"):  # atftp, and exactly which packet: test_tftp_loss
        seconds[client] = fetch(segment, client, "grub/core.efi", got, timeout=300)
        assert got.read_bytes() == FILE, client
    print(percent, "per cent:", json.dumps({client: round(value, 1) for client, value in seconds.items()}))
    assert segment.lost() > 0


@requires(*PROGRAMS)
def test_block_numbers_wrap_for_a_client_without_options(
    segment: Segment, server: Server, folder: Path, tmp_path: Path
) -> None:
    """100 MiB are 204,800 blocks of 512 bytes, so the number wraps three times, and an empty block."""
    content = FILE[: 2**20] * 100
    (folder / "kernel").write_bytes(content)
    got = tmp_path / "got"
    fetch(segment, "tftp-hpa", "kernel", got, timeout=300)
    assert got.read_bytes() == content


PROBE = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(60)
sock.sendto(bytes.fromhex(sys.argv[2]), (sys.argv[1], 69))
data, sender = sock.recvfrom(2000)
print(data.hex(), sender[0])
"""
EDK2_OLD = (  # fixture T-EDK2-OLD
    "0001626f6f747836342e656669006f63746574007473697a65003000626c6b73697a65003134363800"
)


@requires("ip")
@pytest.mark.parametrize(("mtu", "blksize"), [(1500, "1468"), (1450, "1418")])
def test_blocks_fit_the_path(segment: Segment, server: Server, folder: Path, mtu: int, blksize: str) -> None:
    (folder / "bootx64.efi").write_bytes(FILE)
    segment.server.run("ip", "link", "set", "dev", segment.server.interface, "mtu", str(mtu))
    answer, _ = segment.client.run(sys.executable, "-c", PROBE, SERVER, EDK2_OLD).stdout.split()
    assert bytes.fromhex(answer) == b"\0\6tsize\0%d\0blksize\0%b\0" % (len(FILE), blksize.encode())


@requires("ip")
def test_a_host_with_two_addresses_answers_from_the_one_that_was_asked(
    segment: Segment, server: Server, folder: Path
) -> None:
    (folder / "bootx64.efi").write_bytes(FILE)
    segment.server.run("ip", "address", "add", "10.77.0.9/24", "dev", segment.server.interface)
    for address in ("10.77.0.9", SERVER):
        _, sender = segment.client.run(sys.executable, "-c", PROBE, address, EDK2_OLD).stdout.split()
        assert sender == address


@requires(*PROGRAMS)
@pytest.mark.parametrize("settings", [(), ("single_port=1",)], ids=["ports", "single-port"])
def test_a_host_on_several_wires_answers_each_from_the_address_that_was_asked(
    segment: Segment, folder: Path, tmp_path: Path, settings: tuple[str, ...]
) -> None:
    """Also from that of its other interface, where nobody listens to anything else (tftp-hpa, busybox, atftp)."""
    far = second_wire(segment)
    bring_up(segment.server, "eth2", "10.78.0.1/24", "10.78.0.9/24")
    bring_up(far, "eth0", "10.78.0.2/24")
    far.run("ip", "route", "add", SERVER, "via", "10.78.0.1")
    with running(folder, tmp_path / "log", segment.server.popen, 69, *settings) as server:
        for client in CLIENTS:
            for host, address in ((segment.client, SERVER), (far, "10.78.0.1"), (far, "10.78.0.9"), (far, SERVER)):
                got = tmp_path / "got"
                got.unlink(missing_ok=True)
                host.run(*(word.replace(SERVER, address) for word in command(client, "exact", got)))
                assert got.read_bytes() == EXACT, (client, address)
        server.finished(4 * len(CLIENTS))
        assert server.stop()["complete"] == 4 * len(CLIENTS)


@requires(*PROGRAMS)
def test_several_clients_at_once_all_get_their_file(segment: Segment, server: Server, tmp_path: Path) -> None:
    processes = [
        segment.client.popen(*command("curl-1428", "grub/core.efi", tmp_path / f"got{number}")) for number in range(12)
    ]
    assert [process.wait(300) for process in processes] == [0] * 12
    assert all((tmp_path / f"got{number}").read_bytes() == FILE for number in range(12))
    assert server.stop()["descriptors"] == 0
