"""Paths that carry less than our own link: told by the route, by a router, or by nobody (T-14, TQ5, scenario 18)."""

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.net.test_tftp_clients import EDK2_OLD, PROBE
from tests.support.segment import Host, Segment, requires
from tests.support.tftp_server import Server, running

pytestmark = pytest.mark.net

SERVER = "10.77.0.1"
FILE = random.Random(4).randbytes(200_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tftp"
    folder.mkdir()
    (folder / "bootx64.efi").write_bytes(FILE)
    return folder


@pytest.fixture
def segment() -> Iterator[Segment]:
    with Segment(client_address="10.77.0.2/24") as segment:
        # The bridge would otherwise see a whole window as one packet: a switch never does.
        segment.server.run("ip", "link", "set", "dev", segment.server.interface, "gso_max_segs", "1")
        yield segment


@pytest.fixture(params=["", "single_port=1"], ids=["ports", "single-port"])
def server(request: pytest.FixtureRequest, segment: Segment, folder: Path) -> Iterator[Server]:
    settings = [request.param] if request.param else []
    with running(folder, folder.parent / "log", segment.server.popen, 69, *settings) as server:
        yield server


def swallow(segment: Segment, longest: int) -> None:
    """Have the middle drop every packet above `longest` bytes, and every fragment, and tell nobody."""
    rules = ["table bridge narrow {", "chain middle {", "type filter hook forward priority 0; policy accept;"]
    rules += [f"ip length > {longest} counter drop", "ip frag-off & 0x3fff != 0 counter drop", "}", "}", ""]
    segment.bridge.run("nft", "-f", "-", text_in="\n".join(rules))


def offered(host: Host, address: str = SERVER) -> int:
    """Return the blksize that a machine is granted that asks for 1468 and then says no more."""
    answer, _ = host.run(sys.executable, "-c", PROBE, address, EDK2_OLD).stdout.split()
    words = bytes.fromhex(answer)[2:].split(b"\0")
    return int(words[words.index(b"blksize") + 1])


def curl(host: Host, to: Path, blksize: int = 1468, patience_s: int = 4) -> bool:
    """Have curl fetch the file, and return whether it has it whole."""
    to.unlink(missing_ok=True)
    options = ["--tftp-blksize", str(blksize), "-m", str(patience_s), "-o", str(to)]
    done = host.run("curl", "-sS", *options, f"tftp://{SERVER}/bootx64.efi", check=False)
    return done.returncode == 0 and to.read_bytes() == FILE


def failures(host: Host, to: Path, expected: int) -> int:
    """Return how often curl fails until it has the file whole.

    So often as is expected it is impatient, for nothing is to arrive; then it has the time that a busy machine may
    need, of which one more failure may come when the server was away.
    """
    for number in range(expected + 3):
        if curl(host, to, patience_s=4 if number < expected else 40):
            return number
    raise AssertionError("it never got the file")


@requires("ip", "nft", "curl")
def test_what_a_tunnel_swallows_is_sent_in_smaller_blocks_the_next_time(
    segment: Segment, server: Server, tmp_path: Path
) -> None:
    swallow(segment, 1450)
    assert 1 <= failures(segment.client, tmp_path / "got", 1) <= 2
    assert server.said("WARNING tftp 10.77.0.2: blocks of 1468 bytes do not arrive; from now on it gets 1400 at most")
    assert offered(segment.client) == 1400
    assert server.stop()["narrowed"] == 1


@requires("ip", "nft", "curl")
def test_a_very_narrow_tunnel_is_found_in_a_few_tries(segment: Segment, server: Server, tmp_path: Path) -> None:
    swallow(segment, 1200)
    assert 2 <= failures(segment.client, tmp_path / "got", 2) <= 4
    assert offered(segment.client) == 1024
    assert offered(segment.host(address="10.77.0.3/24")) == 1468  # perhaps on another path


@requires("ip", "nft", "curl")
def test_a_small_file_says_nothing_about_large_blocks(
    segment: Segment, server: Server, folder: Path, tmp_path: Path
) -> None:
    (folder / "grub.cfg").write_bytes(b"one\n")
    swallow(segment, 1450)
    done = segment.client.run("curl", "-sS", "--tftp-blksize", "1468", f"tftp://{SERVER}/grub.cfg")
    assert done.stdout == "one\n"
    assert offered(segment.client) == 1468


@requires("ip")
def test_blocks_fit_what_the_route_says(segment: Segment, server: Server) -> None:
    assert offered(segment.client) == 1468
    segment.server.run("ip", "route", "replace", "10.77.0.2/32", "dev", segment.server.interface, "mtu", "1400")
    assert offered(segment.client) == 1368


@pytest.fixture
def beyond(segment: Segment) -> Host:
    """A machine behind a router and a link that carries 1300 bytes."""
    router, host = segment.host(address="10.77.0.254/24"), segment.host(interface="unused")
    host.run("ip", "link", "delete", "unused")
    router.run("ip", "link", "add", "eth9", "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
    for end, interface, address in ((router, "eth9", "192.168.9.1/24"), (host, "eth0", "192.168.9.2/24")):
        end.run("ip", "address", "add", address, "dev", interface)
        end.run("ip", "link", "set", interface, "up", "mtu", "1300")
    router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    host.run("ip", "route", "add", "default", "via", "192.168.9.1")
    segment.server.run("ip", "route", "add", "192.168.9.0/24", "via", "10.77.0.254")
    return host


LARGE_WITHOUT_FRAGMENTS = """
import socket, sys, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER, IP_PMTUDISC_DO
sock.connect((sys.argv[1], 9))
sock.send(bytes(1400))
until = time.monotonic() + 60
while sock.getsockopt(socket.IPPROTO_IP, 14) > 1300 and time.monotonic() < until:  # IP_MTU
    time.sleep(0.02)
"""


@requires("ip")
def test_blocks_fit_what_a_router_has_told_the_kernel(segment: Segment, server: Server, beyond: Host) -> None:
    assert offered(beyond) == 1468
    # What TCP does all the time, and so a download of the same machine's by HTTP.
    segment.server.run(sys.executable, "-c", LARGE_WITHOUT_FRAGMENTS, "192.168.9.2")
    assert offered(beyond) == 1268


@requires("ip", "curl")
def test_a_router_may_cut_blocks_into_fragments(
    segment: Segment, server: Server, beyond: Host, tmp_path: Path
) -> None:
    assert curl(beyond, tmp_path / "got", patience_s=80)


@requires("ip", "nft", "curl")
def test_no_packet_forbids_fragments(segment: Segment, server: Server, tmp_path: Path) -> None:
    rules = ["table bridge df {", "chain middle {", "type filter hook forward priority 0; policy accept;"]
    rules += ["ip saddr 10.77.0.1 meta l4proto udp ip frag-off & 0x4000 != 0 counter", "}", "}", ""]
    rules.insert(3, "ip saddr 10.77.0.1 meta l4proto udp counter")
    segment.bridge.run("nft", "-f", "-", text_in="\n".join(rules))
    assert curl(segment.client, tmp_path / "got", patience_s=80)
    missing = segment.client.run("curl", "-sS", f"tftp://{SERVER}/missing", check=False)
    assert "File Not Found" in missing.stderr or missing.returncode == 68
    listed = json.loads(segment.bridge.run("nft", "-j", "list", "table", "bridge", "df").stdout)["nftables"]
    rules_seen = [item["rule"]["expr"] for item in listed if "rule" in item]
    packets = [part["counter"]["packets"] for expr in rules_seen for part in expr if "counter" in part]
    assert packets[0] > 130
    assert packets[1] == 0
