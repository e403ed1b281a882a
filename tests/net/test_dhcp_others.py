"""dnsmasq as somebody else's server beside ours: it is noticed, named, and shown. And what must not be believed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from dhcp import wire
from dhcp.frame import udp_packet
from dhcp.options import MessageType, Option
from tests.support.dhcp_clients import message
from tests.support.dnsmasq import Dnsmasq
from tests.support.segment import Host, Segment, requires
from tests.support.served import MAC, Daemon, Prepared, make_grub, status, status_json

pytestmark = pytest.mark.net

FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"

ROGUE = "10.77.0.2"
ROGUE_ID = IPv4Address(ROGUE)
EVERYBODY = IPv4Address("255.255.255.255")
UDHCPC = ("busybox", "udhcpc", "-f", "-n", "-q", "-t", "30", "-T", "1", "-i", "eth0", "-s", "/bin/true")
WATCH = """\
import asyncio, sys, time
from ipaddress import IPv4Address
from dhcp.others import Others, Ours
from dhcp.sniff import watch

async def main():
    ours = Ours(lambda address: address == IPv4Address("10.77.0.1"), {sys.argv[2]: "m1"}.get, lambda address: False)
    others = Others(ours)
    task = asyncio.create_task(watch(sys.argv[1], others, lambda text: print("WARN", text, flush=True), time.time))
    asyncio.get_running_loop().add_reader(0, lambda: tell(others, sys.stdin.readline()))
    print("watching", flush=True)
    await task

def tell(others, line):
    if not line:
        sys.exit(0)
    used = time.process_time()
    print("COUNT", sum(other.count for other in others), used, flush=True)

asyncio.run(main())
"""
HANDED_OVER = """\
import struct
from dhcp.sniff import open_socket

with open_socket("eth1") as sock:
    print("open", flush=True)
    sock.settimeout(60)
    for _ in range(2):
        sock.recv(4096)
    print(struct.unpack("@II", sock.getsockopt(263, 6, 8))[0])  # PACKET_STATISTICS: packets that passed the filter
"""
SEND = """\
import socket, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sock.bind((sys.argv[1], 0))
for line in sys.stdin:
    sock.send(bytes.fromhex(line))
"""


class Watching:
    """`dhcp.sniff.watch` on a host; `MAC` is the machine m1 of ours."""

    def __init__(self, host: Host, interface: str = "eth1") -> None:
        self.host = host
        self.interface = interface
        self.process = host.popen(
            sys.executable, "-c", WATCH, interface, MAC, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert self.line() == "watching"

    def wait_until_open(self) -> None:
        """Wait until its socket hears what comes on the interface as it is now."""
        wait_for(lambda: index_of(self.host, self.interface) in packet_sockets(self.host))

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def counted(self) -> tuple[int, float]:
        """How many messages of others it took in so far, and the CPU seconds that it used."""
        assert self.process.stdin is not None
        self.process.stdin.write("count\n")
        self.process.stdin.flush()
        while not (line := self.line()).startswith("COUNT"):
            assert line.startswith("WARN"), line
        return int(line.split()[1]), float(line.split()[2])


def wait_for(what: Callable[[], Any], within_s: float = 90.0) -> Any:
    """Return what `what` returns once that is true."""
    deadline = time.monotonic() + within_s
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return found


def index_of(host: Host, interface: str) -> int:
    """The number that the kernel gave an interface; another one when it is made anew."""
    return int(host.run("cat", f"/sys/class/net/{interface}/ifindex").stdout)


def packet_sockets(host: Host) -> list[int]:
    """The numbers of the interfaces that packet sockets are bound to on a host, one that is down excepted."""
    rows = [line.split() for line in host.run("cat", "/proc/net/packet").stdout.splitlines()[1:]]
    return [int(row[4]) for row in rows if row[5] == "1"]


@pytest.fixture
def segment() -> Iterator[Segment]:
    with Segment() as segment:
        yield segment


def frames(host: Host, *packets: bytes, tag: bytes = b"", interface: str = "eth0") -> None:
    """Send IPv4 packets to everybody, from a MAC that is no host's; `tag` stands before the Ethernet type."""
    head = bytes.fromhex("ffffffffffff") + bytes.fromhex("5254000000ee") + tag + bytes.fromhex("0800")
    host.run(sys.executable, "-c", SEND, interface, text_in="\n".join((head + packet).hex() for packet in packets))


def offer(number: int = 0, server: IPv4Address = ROGUE_ID, op: wire.Op = wire.Op.BOOTREPLY) -> bytes:
    """An OFFER to m1."""
    options = {Option.SERVER_IDENTIFIER: server.packed}
    said = message(MessageType.DHCPOFFER, MAC, op=op, xid=number, yiaddr=IPv4Address("10.77.0.55"), options=options)
    return udp_packet(server, 67, EVERYBODY, 68, said.encode(), number)


def test_a_priority_tag_hides_nothing_and_what_is_damaged_is_not_believed(segment: Segment) -> None:
    rogue = segment.host(address=f"{ROGUE}/24")
    watching = Watching(segment.server)
    watching.wait_until_open()
    sound = offer()
    damaged = [
        sound[:-1] + bytes((sound[-1] ^ 1,)),  # the UDP checksum is wrong
        sound[:10] + bytes(2) + sound[12:],  # the header's is
        sound[:6] + b"\x20\0" + sound[8:],  # more fragments follow
        sound[:-40],  # cut
        offer(server=IPv4Address("10.77.0.1")),  # ours, as a relay would bring it back
        offer(op=wire.Op.BOOTREQUEST),
        udp_packet(ROGUE_ID, 53, EVERYBODY, 53, b"\2" * 300, 0),
        udp_packet(ROGUE_ID, 67, EVERYBODY, 68, b"\2" * 300, 0),  # no cookie
        b"\x45" * 400,
    ]
    frames(rogue, *damaged)
    frames(rogue, offer(), tag=bytes.fromhex("81000005"))  # VLAN 5 is another network
    assert watching.counted()[0] == 0
    frames(rogue, offer(), tag=bytes.fromhex("81000000"))
    assert watching.line() == (
        f"WARN another DHCP server, {ROGUE} (52:54:00:00:00:ee) on eth1, offered m1 the address 10.77.0.55"
    )
    frames(rogue, offer())
    wait_for(lambda: watching.counted()[0] == 2)


def test_the_kernel_hands_over_no_request_and_nothing_that_we_send(segment: Segment) -> None:
    """Thousands a second of both, while we serve; each would wake us."""
    server = segment.server
    process = server.popen(sys.executable, "-c", HANDED_OVER, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    frames(server, *(offer(number, server=IPv4Address("10.77.0.3")) for number in range(500)), interface="eth1")
    discover = message(MessageType.DHCPDISCOVER, MAC).encode()
    by_relay = udp_packet(ROGUE_ID, 67, EVERYBODY, 67, discover, 0)
    frames(segment.client, *[udp_packet(IPv4Address(0), 68, EVERYBODY, 67, discover, 0), by_relay] * 500)
    frames(segment.client, offer(), offer(1))
    assert process.communicate(timeout=90)[0] == "2\n"


def test_a_flood_of_answers_is_looked_at_no_faster_than_the_bound(segment: Segment) -> None:
    rogue = segment.host(address=f"{ROGUE}/24")
    watching = Watching(segment.server)
    watching.wait_until_open()
    began, before = time.monotonic(), watching.counted()[1]
    frames(rogue, *(offer(number) for number in range(30_000)))
    count, used = watching.counted()
    took = time.monotonic() - began
    assert 0 < count <= 1_600 * took + 64
    assert used - before < 0.5 * took


def test_an_interface_that_goes_and_comes_is_watched_again(segment: Segment) -> None:
    server = segment.server
    watching = Watching(server, "dummy7")
    server.run("sh", "-c", "ip link add dummy7 type veth peer name peer7; ip link set peer7 up; ip link set dummy7 up")
    watching.wait_until_open()
    frames(server, offer(), interface="peer7")
    assert "on dummy7, offered m1" in watching.line()
    server.run("sh", "-c", "ip link set dummy7 down; ip link set dummy7 up")
    frames(server, offer(server=IPv4Address("10.77.0.3")), interface="peer7")
    assert "10.77.0.3" in watching.line()
    server.run("sh", "-c", "ip link del dummy7; ip link add dummy7 type veth peer name peer7; ip link set peer7 up;"
                           "ip link set dummy7 up")  # fmt: skip
    watching.wait_until_open()
    frames(server, offer(server=IPv4Address("10.77.0.4")), interface="peer7")
    assert "10.77.0.4" in watching.line()


def test_without_the_privilege_that_is_said_once(segment: Segment) -> None:
    bare = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
    said = segment.server.run(*bare, sys.executable, "-c", WATCH, "eth1", MAC, text_in="", check=False).stdout
    assert "WARN other DHCP servers on eth1 are not noticed: not permitted; it needs CAP_NET_RAW" in said


@requires("dnsmasq", "busybox", "grub-mknetdir")
def test_a_second_server_is_noticed_by_the_daemon_and_shown_in_red(segment: Segment, tmp_path: Path) -> None:
    prepared = Prepared(tmp_path, make_grub(tmp_path / "grub"))
    daemon = Daemon(segment.server, tmp_path, "-c", str(prepared.configuration))
    assert status_json(prepared.control)["others"] == []
    rogue = segment.host(address=f"{ROGUE}/24")
    node = segment.host(mac=MAC)
    with Dnsmasq(rogue, tmp_path, "--dhcp-range=10.77.0.50,10.77.0.60,1h", "--dhcp-boot=pxelinux.0"):
        node.run(*UDHCPC, "-B", check=False)
        (other,) = wait_for(lambda: status_json(prepared.control)["others"])
    assert (other["server_id"], other["mac"], other["interface"]) == (ROGUE, rogue.mac, "eth1")
    assert (other["standing"], other["machines"]) == ("conflict", ["m1"])
    assert other["boot"]["boot_file"] == "pxelinux.0"
    assert (other["address"]["machine"], other["address"]["lease_s"]) == ("m1", 3600)
    log = wait_for(lambda: daemon.log if "another DHCP server" in daemon.log else "")
    line = next(line for line in log.splitlines() if "another DHCP server" in line)
    assert line.startswith(f"WARNING another DHCP server, {ROGUE} ({rogue.mac}) on eth1, hands out the boot file")
    shown = status(prepared.control).stdout
    assert f"another DHCP server: {ROGUE} ({rogue.mac}) on eth1 hands out the boot file 'pxelinux.0'" in shown
    assert json.dumps(other)
    daemon.stop()


@requires("busybox", "grub-mknetdir")
def test_a_server_whose_answers_are_unicast_is_known_from_who_chose_it(segment: Segment, tmp_path: Path) -> None:
    prepared = Prepared(tmp_path, make_grub(tmp_path / "grub"))
    daemon = Daemon(segment.server, tmp_path, "-c", str(prepared.configuration))
    options = {Option.SERVER_IDENTIFIER: ROGUE_ID.packed, Option.REQUESTED_IP_ADDRESS: bytes((10, 77, 0, 55))}
    request = message(MessageType.DHCPREQUEST, MAC, options=options).encode()
    frames(segment.client, udp_packet(IPv4Address(0), 68, EVERYBODY, 67, request, 1))
    (other,) = wait_for(lambda: status_json(prepared.control)["others"])
    assert (other["server_id"], other["mac"], other["taken"]["machine"]) == (ROGUE, None, "m1")
    wait_for(lambda: f"{ROGUE} (its MAC was not seen) on eth1, was chosen by m1" in daemon.log)
    daemon.stop()


@requires("grub-mknetdir")
@pytest.mark.skipif(not Path(FAKETIME).exists() and not os.environ.get("CI"), reason="needs faketime")
def test_the_daemon_tells_of_another_server_by_the_clock_of_its_leases(
    segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who chose it is told by that clock: with two that differ, each warning would be news after the other."""
    offset = tmp_path / "offset"
    offset.write_text("+0")
    prepared = Prepared(tmp_path, make_grub(tmp_path / "grub"))
    with monkeypatch.context() as faked:
        faked.setenv("LD_PRELOAD", FAKETIME)
        faked.setenv("FAKETIME_TIMESTAMP_FILE", str(offset))
        for name in ("FAKETIME_NO_CACHE", "FAKETIME_DONT_FAKE_MONOTONIC", "DONT_FAKE_MONOTONIC"):
            faked.setenv(name, "1")
        daemon = Daemon(segment.server, tmp_path, "-c", str(prepared.configuration))
    (tmp_path / "new-offset").write_text("-20")  # at once: libfaketime reads it at any moment
    (tmp_path / "new-offset").rename(offset)  # which is too little for the leases to follow
    time.sleep(0.2)

    since = 0.0

    def noticed() -> Any:
        nonlocal since
        since = since or time.time()
        frames(segment.client, offer())
        said = status(prepared.control, "--json")  # which a busy daemon may not answer in time
        return json.loads(said.stdout)["others"] if not said.returncode else []

    (other,) = wait_for(noticed)
    assert since - 9 <= other["last_seen_s"] <= time.time() + 9
    daemon.stop()
