"""dhcp.sending on a link: what does not fit into a frame."""

import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from dhcp.replies import EVERYBODY
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
