"""Addresses that somebody uses already, answers that wait, port 4011, and frames as networks really carry them."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from dhcp import wire
from dhcp.options import MessageType, Option
from tests.support.dhcp_clients import FARM, KNOWN, STRANGER, message, recorded
from tests.support.segment import Host, Segment, requires

pytestmark = pytest.mark.net

UDHCPC = ["busybox", "udhcpc", "-f", "-n", "-q", "-t", "30", "-T", "2", "-i", "eth0", "-s", "/bin/true"]
PATIENCE_S = 90.0
POOL = [IPv4Address(f"10.77.0.{n}") for n in (8, 9, 11, 12, 13, 14, 15)]

TALK = """\
import json, select, socket, struct, sys, time
interface, port, wait_s, repeat_s, packets = json.loads(sys.stdin.read())
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
sock.bind(("0.0.0.0", port))
sent = repeated = time.monotonic()
said = []
def send():
    for address, to, data in packets:
        if data[56:68] not in {answer[56:68] for *_, answer in said}:  # chaddr
            sock.sendto(bytes.fromhex(data), (address, to))
send()
while (left := sent + wait_s - time.monotonic()) > 0 and len(said) < len(packets):
    if repeat_s and time.monotonic() > repeated + repeat_s:
        repeated = time.monotonic()
        send()
    if select.select([sock], [], [], min(left, repeat_s or left))[0]:
        data, source = sock.recvfrom(4096)
        if not repeat_s or data.hex()[56:68] not in {answer[56:68] for *_, answer in said}:
            said.append([time.monotonic() - sent, *source, data.hex()])
print(json.dumps(said))
"""
"""Send packets and tell what comes back: seconds after sending, address, port, data. With `repeat_s`, what was not
answered so long is sent again."""

RAW = """\
import socket, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sock.bind((sys.argv[1], 0))
for frame in sys.argv[2:]:
    sock.send(bytes.fromhex(frame))
"""


class Serving:
    """`tests.support.serve_dhcp` in the segment's server, with probes."""

    def __init__(self, host: Host, folder: Path, **dhcp: Any) -> None:
        self.host, self.folder = host, folder
        self.leases, self.log = folder / "leases", folder / "log"
        (folder / "farm.json").write_text(json.dumps(FARM | {"dhcp": {**FARM["dhcp"], "probe": True, **dhcp}}))
        self.start()

    def start(self) -> None:
        """Start, and wait until it serves."""
        self.log.write_text("")
        argv = ["tests.support.serve_dhcp", "eth1", str(self.folder / "farm.json"), str(self.leases)]
        with self.log.open("w") as log:
            self.process = self.host.popen(sys.executable, "-m", *argv, stdout=log, stderr=subprocess.STDOUT)
        self.wait_for("dhcp serves")

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        assert self.process.wait(PATIENCE_S) == 0

    def wait_for(self, text: str) -> str:
        """Return the log once it contains `text`."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in (log := self.log.read_text()):
            assert time.monotonic() < deadline, f"no {text!r} in:\n{log}"
            time.sleep(0.05)
        return log


@pytest.fixture
def serving(segment: Segment, tmp_path: Path) -> Iterator[Serving]:
    serving = Serving(segment.server, tmp_path)
    yield serving
    assert "Traceback" not in serving.log.read_text()


def udhcpc(host: Host) -> IPv4Address:
    """Return the address that busybox udhcpc obtains."""
    done = host.run(*UDHCPC, check=False)
    found = re.search(r"lease of ([0-9.]+) obtained", done.stdout + done.stderr)
    assert found, done.stdout + done.stderr
    return IPv4Address(found[1])


Said = list[tuple[float, str, int, wire.Message]]


def talk(
    host: Host,
    *packets: wire.Message,
    port: int = 68,
    to: tuple[str, int] = ("255.255.255.255", 67),
    within_s: float = 30.0,
    repeat_s: float = 0.0,
) -> Said:
    """Send messages at once and return what is said to them, once each is answered or `within_s` is over."""
    sent = [host.interface, port, within_s, repeat_s, [[*to, packet.encode().hex()] for packet in packets]]
    done = host.run(sys.executable, "-c", TALK, text_in=json.dumps(sent))
    return [
        (at, source, where, wire.decode(bytes.fromhex(data))) for at, source, where, data in json.loads(done.stdout)
    ]


def discover(mac: str, **fields: Any) -> wire.Message:
    """A DHCPDISCOVER whose answer goes to everybody."""
    return message(MessageType.DHCPDISCOVER, mac, flags=0x8000, **fields)


@requires("busybox")
def test_an_address_that_is_in_use_is_put_aside_and_the_next_one_offered(segment: Segment, serving: Serving) -> None:
    client = segment.host(mac=STRANGER)
    wanted = udhcpc(client)
    serving.stop()
    serving.leases.unlink()
    serving.start()
    squatter = segment.host(address=f"{wanted}/24")
    given = udhcpc(client)
    assert given in POOL
    assert given != wanted
    log = serving.wait_for(f"{wanted} is in use by {squatter.mac}")
    assert len(re.findall(rf"WARNING .*{re.escape(str(wanted))}\b", log)) == 1, "one line"
    assert f"{wanted} " in serving.leases.read_text(), "it is put aside on disk, too"
    others = [udhcpc(segment.host()) for _ in range(2)]
    assert wanted not in others


@requires("busybox")
def test_a_client_that_still_uses_its_address_is_no_stranger_to_it(segment: Segment, serving: Serving) -> None:
    client = segment.host(mac=STRANGER)
    first = udhcpc(client)
    serving.stop()
    serving.leases.unlink()
    serving.start()
    client.run("ip", "address", "add", f"{first}/24", "dev", "eth0")
    assert udhcpc(client) == first


def in_time(attempt: Callable[[int], bool]) -> None:
    """See that it is in time at least once in a few times: this machine may be busy."""
    assert any(attempt(number) for number in range(5))


def test_a_probe_delays_nobody_else_and_is_over_soon(segment: Segment, serving: Serving) -> None:
    def attempt(number: int) -> bool:
        stranger = f"02:00:00:00:09:{number:02x}"
        first, second = talk(segment.client, discover(stranger), discover(KNOWN))
        assert first[3].chaddr.hex(":") == KNOWN, "the machine that needs no probe is answered first"
        assert second[3].chaddr.hex(":") == stranger
        assert second[0] > 0.15
        return first[0] < 0.15 and second[0] < 0.5

    in_time(attempt)


def test_a_message_that_comes_twice_is_no_way_round_the_probe(segment: Segment, serving: Serving) -> None:
    said: Said = []
    for number in range(5):  # none in all that time: this machine stood still
        stranger = f"02:00:00:00:0a:{number:02x}"
        said = said or talk(segment.client, discover(stranger), discover(stranger), within_s=4)
    assert len(said) == 1
    assert said[0][0] > 0.15


def test_a_known_lease_is_offered_again_without_a_probe(segment: Segment, serving: Serving) -> None:
    [(_, _, _, offer)] = talk(segment.client, discover(STRANGER))
    again = {Option.SERVER_IDENTIFIER: b"\x0a\x4d\x00\x01", Option.REQUESTED_IP_ADDRESS: offer.yiaddr.packed}
    talk(segment.client, message(MessageType.DHCPREQUEST, STRANGER, flags=0x8000, options=again))
    in_time(lambda _: talk(segment.client, discover(STRANGER))[0][0] < 0.15)


def test_a_farm_that_is_switched_on_at_once_gets_its_addresses(tmp_path: Path) -> None:
    with Segment("10.77.0.1/16") as segment:
        subnets = [{"subnet": "10.77.0.0/16", "pool": "10.77.8.0-10.77.15.255"}]
        serving = Serving(segment.server, tmp_path, subnets=subnets)
        macs = [f"02:00:00:01:{n >> 8:02x}:{n & 255:02x}" for n in range(600)]
        said = talk(segment.client, *map(discover, macs), within_s=60, repeat_s=4)
        assert {offer.chaddr.hex(":") for _, _, _, offer in said} == set(macs)
        assert len({offer.yiaddr for _, _, _, offer in said}) == len(macs), "none twice"
        assert "Traceback" not in serving.log.read_text()


def test_an_answer_waits_as_long_as_its_firmware_needs_and_nobody_else_does(segment: Segment, tmp_path: Path) -> None:
    quirk = {"name": "slow", "match": {"macs": [STRANGER]}, "reply_delay_s": 0.8}
    Serving(segment.server, tmp_path, probe=False, quirks=[quirk])
    asks = [recorded("D-OVMF-PXE", mac, flags=0x8000) for mac in (STRANGER, KNOWN)]

    def attempt(number: int) -> bool:
        first, second = talk(segment.client, *asks)
        assert (first[3].chaddr.hex(":"), second[3].chaddr.hex(":")) == (KNOWN, STRANGER)
        assert second[0] > 0.75
        return first[0] < 0.3 and second[0] < 1.5

    in_time(attempt)


@pytest.mark.parametrize("port", [4011, 68], ids=["from-4011-as-EDK2", "from-68-as-iPXE"])
def test_port_4011_answers_from_there_to_where_it_was_asked_from(
    segment: Segment, serving: Serving, port: int
) -> None:
    segment.client.run("ip", "address", "add", "10.77.0.10/24", "dev", "eth0")
    asks = recorded("D-EDK2-4011", KNOWN, ciaddr=IPv4Address("10.77.0.10"))
    [(_, source, source_port, ack)] = talk(segment.client, asks, port=port, to=("10.77.0.1", 4011))
    assert (source, source_port) == ("10.77.0.1", 4011)
    assert ack.options[Option.DHCP_MESSAGE_TYPE] == bytes((MessageType.DHCPACK,))
    assert ack.options[Option.BOOTFILE_NAME]


def frame(data: bytes, source: str, tag: bytes = b"") -> str:
    """A broadcast frame with a DHCP message from an IP address, perhaps with a VLAN tag, as hex."""
    from scapy.layers.inet import IP, UDP

    packet = IP(src=source, dst="255.255.255.255") / UDP(sport=68, dport=67) / data
    return (b"\xff" * 6 + bytes.fromhex("020000000099") + tag + b"\x08\x00" + bytes(packet)).hex()


def test_a_frame_with_a_priority_and_no_vlan_is_a_frame_like_others(segment: Segment, serving: Serving) -> None:
    data = discover(KNOWN).encode()
    segment.client.run(sys.executable, "-c", RAW, "eth0", frame(data, "0.0.0.0", bytes.fromhex("8100e000")))
    serving.wait_for("DHCPOFFER")


@pytest.mark.parametrize("source", ["10.77.0.1", "10.77.0.255", "255.255.255.255", "224.0.0.1", "127.0.0.1"])
def test_what_says_it_comes_from_us_or_from_everybody_gets_no_answer(
    segment: Segment, serving: Serving, source: str
) -> None:
    segment.server.run("sh", "-c", "for f in /proc/sys/net/ipv4/conf/*/accept_local; do echo 1 > $f; done")
    frames = [frame(discover(mac).encode(), source) for mac in (KNOWN, "52:54:00:12:34:57")]
    segment.client.run(
        sys.executable, "-c", RAW, "eth0", *frames, frame(discover("52:54:00:00:00:02").encode(), "0.0.0.0")
    )
    log = serving.wait_for("DHCPOFFER")
    assert log.count("DHCPOFFER") == 1
    assert KNOWN not in log


def test_an_interface_with_several_addresses_answers_with_the_one_concerned(segment: Segment, tmp_path: Path) -> None:
    segment.server.run("ip", "address", "add", "10.78.0.1/24", "dev", "eth1")
    Serving(segment.server, tmp_path, probe=False)
    [(_, source, _, offer)] = talk(segment.client, discover(STRANGER))
    assert (source, offer.options[54]) == ("10.77.0.1", IPv4Address("10.77.0.1").packed)
    asks = message(
        MessageType.DHCPREQUEST,
        "52:54:00:00:00:03",
        flags=0x8000,
        options={Option.REQUESTED_IP_ADDRESS: IPv4Address("10.78.0.3").packed},
    )
    [(_, source, _, ack)] = talk(segment.client, asks)
    assert (source, ack.options[54]) == ("10.78.0.1", IPv4Address("10.78.0.1").packed)
    assert str(ack.yiaddr) == "10.78.0.3"


def test_a_machine_of_a_shared_network_is_told_our_address_in_its_own(segment: Segment, tmp_path: Path) -> None:
    segment.server.run("ip", "address", "add", "10.78.0.1/24", "dev", "eth1")
    subnets = [{**subnet, "shared_network": "wire"} for subnet in FARM["dhcp"]["subnets"][:2]]
    Serving(segment.server, tmp_path, probe=False, subnets=subnets, shared_networks={"wire": {}})
    for mac, own in (("52:54:00:00:00:03", "10.78.0.1"), (KNOWN, "10.77.0.1")):
        asks = recorded("D-OVMF-PXE", mac, flags=0x8000)
        [(_, source, _, offer)] = talk(segment.client, asks)
        assert (source, offer.siaddr, offer.options[54]) == (own, IPv4Address(own), IPv4Address(own).packed)
        wants = {Option.SERVER_IDENTIFIER: offer.options[54], Option.REQUESTED_IP_ADDRESS: offer.yiaddr.packed}
        request = message(MessageType.DHCPREQUEST, mac, flags=0x8000, options=wants)
        [(_, source, _, ack)] = talk(segment.client, request)
        assert (source, ack.yiaddr, ack.options[54]) == (own, offer.yiaddr, offer.options[54])


@requires("nft")
def test_what_cannot_be_sent_is_dropped_and_the_next_is_sent(segment: Segment, serving: Serving) -> None:
    refuse = "table ip refuse {\nchain out {\ntype filter hook output priority 0\nudp sport 67 drop\n}\n}\n"
    segment.server.run("nft", "-f", "-", text_in=refuse)
    relay = segment.host(address="10.77.0.99/24")
    relayed = [discover(mac, giaddr=IPv4Address("10.77.0.99"), hops=1) for mac in (KNOWN, "52:54:00:00:00:02")]
    assert talk(relay, *relayed, port=67, to=("10.77.0.1", 67), within_s=2) == []
    log = serving.wait_for("dhcp could not send to 10.77.0.99: [Errno 1] Operation not permitted")
    assert log.count("could not send") == 1
    segment.server.run("nft", "delete", "table", "ip", "refuse")
    assert len(talk(relay, relayed[0], port=67, to=("10.77.0.1", 67))) == 1
