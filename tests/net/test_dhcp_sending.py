"""dhcp.sending on a link: what does not fit into a frame, and many answers to a relay."""

import errno
import json
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from dhcp.replies import EVERYBODY
from tests.support.dhcp_clients import FARM, OWN_ADDRESS, recorded
from tests.support.segment import Segment

pytestmark = pytest.mark.net

MTU = 1400
CLIENT = "10.77.0.9"
RECEIVE = """
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("", 68))
sock.settimeout(90)
print("bound", flush=True)
print(len(sock.recv(9000)))
"""
SEND = """
import asyncio, logging, sys
from ipaddress import IPv4Address
from pathlib import Path
from dhcp.actions import Datagram
from dhcp.complaints import Complaints
from dhcp.replies import Destination
from dhcp.sending import Sender
from dhcp.sockets import open_sockets

async def main(address, hardware, length):
    complain = Complaints(logging.getLogger("dhcp"), asyncio.get_running_loop().time)
    sender = Sender(open_sockets("eth1"), complain)
    to = Destination(IPv4Address(address), 68, bytes.fromhex(hardware) or None)
    sender.put(Datagram(bytes(int(length)), to, 1), IPv4Address("10.77.0.1"))
    print(dict(sender.failed))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def segment() -> Iterator[Segment]:
    with Segment(client_address=f"{CLIENT}/24") as segment:
        segment.server.run("ip", "link", "set", "eth1", "mtu", str(MTU))
        segment.client.run("ip", "link", "set", "eth0", "mtu", str(MTU))
        yield segment


@pytest.mark.parametrize("length", [MTU - 28, MTU - 27], ids=["fits", "does-not-fit"])
@pytest.mark.parametrize("to", ["everybody", "one-without-an-address"])
def test_an_answer_longer_than_the_mtu_arrives(segment: Segment, to: str, length: int) -> None:
    """28 bytes of a frame are the headers of IP and UDP."""
    everybody = to == "everybody"
    address, hardware = (EVERYBODY, "") if everybody else (IPv4Address(CLIENT), segment.client.mac.replace(":", ""))
    receiver = segment.client.popen(sys.executable, "-c", RECEIVE, stdout=subprocess.PIPE)
    assert receiver.stdout is not None
    assert receiver.stdout.readline() == "bound\n"
    sent = segment.server.run(sys.executable, "-c", SEND, str(address), hardware, str(length))
    assert sent.stdout == "{}\n"
    assert receiver.communicate(timeout=120)[0] == f"{length}\n"


SET_FEATURE = """
import sys
from pyroute2.ethtool.ioctl import IoctlEthtool
card = IoctlEthtool("eth1")
features = card.get_features()
features["tx-udp-segmentation"] = bool(int(sys.argv[1]))
card.set_features(features)
"""
DHCRELAY = """
import socket
sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
sock.bind(("eth0", 0x0800))
sock.settimeout(90)
print("bound", flush=True)
while (data := sock.recv(1536))[9] != 17 or data[22:24] != bytes((0, 67)):
    pass
for n in range(100):
    print(len(data), data[28], flush=True)
    data = sock.recv(1536) if n < 99 else b""
"""
RELAY = """
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, 33, 1 << 22)  # SO_RCVBUFFORCE: two hundred at once, some in fragments
sock.bind(("", 67))
sock.settimeout(90)
print("bound", flush=True)
for _ in range(200):
    data, source = sock.recvfrom(9000)
    print(data[0], len(data), *source)
"""
SEND_MANY = """
import asyncio, logging, socket, sys
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from dhcp.actions import Datagram
from dhcp.complaints import Complaints
from dhcp.replies import Destination
from dhcp.sending import Sender
from dhcp.sockets import open_sockets

class Counting:
    calls = 0

    def __init__(self, sock, refused):
        self._sock, self._refused = sock, refused

    def __getattr__(self, name):
        return getattr(self._sock, name)

    def sendmsg(self, data, control, flags, address):
        self.calls += 1
        if self._refused and any(level == socket.SOL_UDP for level, _, _ in control):
            raise OSError(self._refused, "refused")
        return self._sock.sendmsg(data, control, flags, address)

async def main(refused, *lengths):
    complain = Complaints(logging.getLogger("dhcp"), asyncio.get_running_loop().time)
    sockets = open_sockets("eth1")
    udp = Counting(sockets.udp, int(refused))
    sender = Sender(replace(sockets, udp=udp), complain)
    to = Destination(IPv4Address("10.77.0.9"), 67, None)
    own, calls = IPv4Address("10.77.0.1"), 0
    sender.gathers = True
    for half in range(2):
        for n in range(100):
            sender.put(Datagram(bytes((n,)) * int(lengths[n % len(lengths)]), to, 1), own)
        assert udp.calls == calls, "they leave together, later"
        await asyncio.sleep(0.01)
        calls = udp.calls
    print(udp.calls, dict(sender.failed))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("refused", "lengths", "calls"),
    [
        pytest.param(0, (300,), 14, id="one length, 16 at a time"),
        pytest.param(0, (300, 300, 548), 2 * (5 + 3), id="two lengths"),
        pytest.param(0, (MTU - 27,), 200 + 14, id="longer than the path allows"),
        pytest.param(0, (1, MTU - 28), 2 * (4 + 4), id="the shortest and the longest"),
        pytest.param(errno.EIO, (300,), 200 + 1, id="a card that cannot, which is asked once"),
        pytest.param(errno.ENOBUFS, (300,), 200 + 14, id="no room for so many"),
    ],
)
def test_many_answers_to_a_relay_all_arrive_and_leave_by_few_calls(
    segment: Segment, refused: int, lengths: tuple[int, ...], calls: int
) -> None:
    segment.server.run(sys.executable, "-c", SET_FEATURE, "0")
    relay = segment.client.popen(sys.executable, "-c", RELAY, stdout=subprocess.PIPE)
    assert relay.stdout is not None
    assert relay.stdout.readline() == "bound\n"
    sent = segment.server.run(sys.executable, "-c", SEND_MANY, str(refused), *map(str, lengths))
    found = sorted(relay.communicate(timeout=120)[0].splitlines())
    expected = [f"{n} {lengths[n % len(lengths)]} 10.77.0.1 67" for n in range(100)]
    assert found == sorted(expected * 2)
    assert sent.stdout == f"{calls} {{}}\n"


@pytest.mark.parametrize(("feature", "calls"), [pytest.param("0", 14, id="cut"), pytest.param("1", 200, id="not cut")])
def test_a_relay_that_reads_packets_gets_each_answer_in_one_of_its_own(
    segment: Segment, feature: str, calls: int
) -> None:
    """As ISC dhcrelay does, which loses all but the first of what a veth passes on in one piece."""
    segment.server.run(sys.executable, "-c", SET_FEATURE, feature)
    relay = segment.client.popen(sys.executable, "-c", DHCRELAY, stdout=subprocess.PIPE)
    assert relay.stdout is not None
    assert relay.stdout.readline() == "bound\n"
    sent = segment.server.run(sys.executable, "-c", SEND_MANY, "0", "300")
    assert sent.stdout == f"{calls} {{}}\n"
    found = relay.communicate(timeout=120)[0].splitlines()
    assert sorted(found) == sorted(f"{20 + 8 + 300} {n}" for n in range(100))


OFFER = """
import socket, sys
capture = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
capture.bind(("eth0", 0x0800))
capture.settimeout(90)
relay = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
relay.bind(("10.77.0.9", 67))
relay.sendto(bytes.fromhex(sys.argv[1]), ("10.77.0.1", 67))
while (packet := capture.recv(2048))[9] != 17 or packet[22:24] != bytes((0, 67)):
    pass
print(hex(packet[0]), packet[6] & 0x40, socket.inet_ntoa(packet[44:48]))
"""


def test_no_packet_to_a_relay_forbids_fragments(segment: Segment, tmp_path: Path) -> None:
    """The DF bit of its header confuses PXE ROMs (Q23)."""
    farm = tmp_path / "farm.json"
    farm.write_text(json.dumps(FARM))
    argv = ("-m", "tests.support.serve_dhcp", "eth1", str(farm), str(tmp_path / "leases"))
    server = segment.server.popen(sys.executable, *argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert server.stdout is not None
    while "dhcp serves" not in (line := server.stdout.readline()):
        assert line, "it has ended"
    ask = recorded("D-OVMF-PXE", giaddr=IPv4Address(CLIENT)).encode().hex()
    assert segment.client.run(sys.executable, "-c", OFFER, ask).stdout == f"0x45 0 {OWN_ADDRESS}\n"
