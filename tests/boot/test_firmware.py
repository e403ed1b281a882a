"""Every way that real firmware takes into our GRUB, or past it: beside somebody else's DHCP server, over HTTP, by port
4011, through a relay, by iPXE.

Each ends where the kernel is on its way, or prints its first line: what follows is the same for all of them, and is in
`test_boot`. A machine takes 15 to 30 s.
"""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from scapy.utils import RawPcapReader

from dhcp import wire
from dhcp.options import MessageType, Option
from dhcp.overheard import Damaged, datagram
from dhcp.wire import NO_ADDRESS, Message
from pxeboot.image.store import open_image
from tests.support.dnsmasq import Dnsmasq
from tests.support.lab import IMAGES, SERVER, Lab, farm
from tests.support.machine import HTTP_ONLY, SOON_S, Firmware, Machine
from tests.support.segment import Segment, requires

pytestmark = pytest.mark.boot

MAC = "52:54:00:12:34:56"
NAME = "m1c29"
OURS = IPv4Address(SERVER)
OTHER = IPv4Address("10.77.0.2")
GATEWAY = "10.77.0.254"
FAR = "10.78.0.0/24"
FAR_GATEWAY = "10.78.0.254"
LOADED = ["discover", "address", "loader", "menu", "kernel"]
BINL = {
    "name": "binl",
    "source": "edk2 PxeBcDhcp4.c: without option 43 it asks port 4011",
    "match": {"vendor_classes": ["PXEClient*"]},
    "boot_server": True,
    "option_43": "none",
}


def started(
    segment: Segment, folder: Path, ip: str = "10.77.0.29", macs: Sequence[str] = (MAC,), **of_dhcp: Any
) -> Lab:
    """Return a farm of one machine, whose daemon runs; `of_dhcp` replaces keys of its `dhcp`."""
    listed = {"name": NAME, "macs": list(macs), "ip": ip}
    made = farm(folder, [{"name": "workers", "image": "node", "nodes": [listed]}])
    lab = Lab(segment, folder, made | {"dhcp": made["dhcp"] | of_dhcp})
    lab.start_daemon()
    return lab


@dataclass(frozen=True, slots=True)
class Said:
    """One DHCP message at the machine's card."""

    source: IPv4Address
    source_port: int
    port: int
    size_bytes: int
    message: Message

    @property
    def kind(self) -> int:
        """Option 53."""
        return self.message.options[Option.DHCP_MESSAGE_TYPE][0]

    @property
    def vendor_class(self) -> bytes:
        """Option 60."""
        return self.message.options.get(Option.VENDOR_CLASS_IDENTIFIER, b"")


class Recorded:
    """A machine that is on, whose card is recorded."""

    def __init__(self, segment: Segment, folder: Path, firmware: Firmware, *extra: str) -> None:
        self._file = folder / "card.pcap"
        dump = f"filter-dump,id=recorder,netdev=n0,file={self._file}"
        self.machine = Machine(segment, folder, firmware=firmware, macs=[MAC], memory_mib=512)
        self.machine.power_on("-object", dump, *extra)

    def dhcp(self) -> list[Said]:
        """Return all DHCP messages of its firmware that came past, in their order.

        If we are slow to pull the plug, its kernel asks for an address too; that is another transaction.
        """
        said: list[Said] = []
        of_firmware: set[int] = set()
        for frame, _ in RawPcapReader(str(self._file)):
            # QEMU records what its card hands over: what virtio says of the frame comes first, in 0, 10 or 12 bytes.
            packet = next((frame[at + 2 :] for at in (12, 22, 24) if frame[at : at + 3] == b"\x08\x00\x45"), b"")
            try:
                found = datagram(packet, summed=False)
                if {found.source_port, found.destination_port} & {67, 68, 4011}:
                    where = (found.source, found.source_port, found.destination_port, len(found.data) + 28)
                    one = Said(*where, wire.decode(found.data))
                    if one.vendor_class.startswith((b"PXEClient", b"HTTPClient")):
                        of_firmware.add(one.message.xid)
                    said.append(one)
            except (Damaged, wire.MalformedPacket):
                continue
        return [one for one in said if one.message.xid in of_firmware]


@contextmanager
def somebody_elses_dhcp(segment: Segment, folder: Path, *more: str) -> Iterator[None]:
    """Serve addresses, and nothing to boot unless `more` says so, on the segment."""
    host = segment.host(address=f"{OTHER}/24")
    plain = ("--dhcp-range=10.77.0.100,10.77.0.150,255.255.255.0,1h", f"--dhcp-option=3,{SERVER}")
    with Dnsmasq(host, folder, *plain, *more):
        yield


def check_our_offers_beside_the_other_server(said: list[Said], vendor_class: bytes) -> None:
    """Each DISCOVER that boots got one offer of ours: without an address, and before a client has made up its mind."""
    asked = [one for one in said if one.kind == MessageType.DHCPDISCOVER]
    ours = [one for one in said if one.kind == MessageType.DHCPOFFER and one.source == OURS]
    assert ours
    assert len(ours) == len(asked), "full server and proxy never both answer"
    chosen = [one for one in said if one.kind == MessageType.DHCPREQUEST and one.port == 67]
    assert chosen
    for request in chosen:
        before = [one.message.xid for one in said[: said.index(request)] if one in ours]
        assert request.message.xid in before, "it had made up its mind before our offer came"
    for question, offer in zip(asked, ours, strict=True):
        assert question.message.xid == offer.message.xid
        assert offer.message.yiaddr == NO_ADDRESS
        assert offer.message.siaddr == OURS
        assert offer.vendor_class.startswith(vendor_class)
        assert not {Option.IP_ADDRESS_LEASE_TIME, Option.SUBNET_MASK, Option.ROUTER} & set(offer.message.options)
        assert offer.size_bytes <= 1472
    acks = [one for one in said if one.kind == MessageType.DHCPACK and one.port == 68]
    assert {one.source for one in acks} == {OTHER}
    assert all(one.message.siaddr != OURS for one in acks), "the other server tells GRUB nothing of us"


@requires("dnsmasq")
@pytest.mark.parametrize(
    ("firmware", "extra", "vendor_class"),
    [
        pytest.param(Firmware.BIOS, (), b"PXEClient", id="bios-ipxe-rom"),
        pytest.param(Firmware.UEFI, (), b"PXEClient", id="uefi-pxe"),
        pytest.param(Firmware.UEFI, HTTP_ONLY, b"HTTPClient", id="uefi-http"),
    ],
)
def test_a_machine_boots_from_us_beside_somebody_elses_dhcp_server(
    segment: Segment, folder: Path, firmware: Firmware, extra: tuple[str, ...], vendor_class: bytes
) -> None:
    """GRUB reads its server out of the DHCPACK, which is the other server's; ours knows better."""
    lab = started(segment, folder, subnets=[{"subnet": "10.77.0.0/24", "proxy": True}])
    with somebody_elses_dhcp(segment, folder):
        recorded = Recorded(segment, folder, firmware, *extra)
        lab.wait_stage(NAME, "kernel")
        recorded.machine.power_off()
    assert lab.stages(NAME)[:5] == LOADED
    assert f"of {OTHER}" in lab.story(NAME)
    check_our_offers_beside_the_other_server(recorded.dhcp(), vendor_class)


def test_a_uefi_machine_boots_over_http_alone(segment: Segment, folder: Path) -> None:
    """No packet of TFTP: GRUB goes on by HTTP too."""
    lab = started(segment, folder)
    recorded = Recorded(segment, folder, Firmware.UEFI, *HTTP_ONLY)
    lab.wait_stage(NAME, "kernel")
    recorded.machine.power_off()
    assert lab.stages(NAME)[:5] == LOADED
    assert "TFTP" not in lab.story(NAME)
    assert "got 'grub/x86_64-efi/core.efi'" in lab.log("serve")
    answers = [one for one in recorded.dhcp() if one.source == OURS]
    assert {one.vendor_class for one in answers} == {b"HTTPClient\0"}
    url = f"http://{SERVER}/grub/x86_64-efi/core.efi".encode()
    assert {one.message.file for one in answers} == {url}
    assert {one.message.options[Option.BOOTFILE_NAME].rstrip(b"\0") for one in answers} == {url}
    assert all(one.size_bytes <= 1472 for one in answers)


DEAF_TO_DHCP = """\
table netdev deaf {
  chain in {
    type filter hook ingress device "eth1" priority 0;
    udp dport 67 drop
  }
}
"""
ASTRAY = """\
table ip astray {
  chain in {
    type nat hook prerouting priority dstnat;
    tcp dport 80 redirect to :8000
  }
}
"""


@requires("nft")
def test_grub_asks_again_until_the_server_knows_what_to_boot(segment: Segment, folder: Path) -> None:
    """At GRUB's own prompt, it would wait for ever. (Nobody at port 80: the same, but GRUB tries for two minutes.)"""
    empty = folder / "empty"
    empty.mkdir()
    lab = started(segment, folder)
    segment.server.run("nft", "-f", "-", text_in=ASTRAY)
    with web_server(segment, empty, folder / "empty.log"):
        machine = Machine(segment, folder, firmware=Firmware.UEFI, macs=[MAC], memory_mib=512)
        machine.power_on()
        machine.wait_for(f"{SERVER} does not answer. This machine asks again in 5 seconds.")
    assert "menu" not in lab.stages(NAME)
    segment.server.run("nft", "delete", "table", "ip", "astray")
    lab.wait_stage(NAME, "kernel")
    machine.power_off()


@requires("dnsmasq")
def test_a_machine_boots_by_its_second_card_when_all_of_dhcp_is_somebody_elses(segment: Segment, folder: Path) -> None:
    """We hear of no lease: the address says which machine it is, and GRUB which card."""
    second = "52:54:00:12:34:57"
    lab = started(segment, folder, macs=[MAC, second])
    segment.server.run("nft", "-f", "-", text_in=DEAF_TO_DHCP)
    told = (f"--dhcp-host={second},10.77.0.29", f"--dhcp-boot=grub/x86_64-efi/core.efi,,{SERVER}")
    with somebody_elses_dhcp(segment, folder, *told):
        machine = Machine(segment, folder, firmware=Firmware.UEFI, macs=[MAC, second], boot_card=1)
        machine.power_on()
        console = machine.wait_for("Kernel command line:")
        machine.power_off()
    assert "BOOTIF=01-52-54-00-12-34-57" in console
    assert lab.stages(NAME)[:3] == ["loader", "menu", "kernel"]


@contextmanager
def behind_a_relay(segment: Segment, folder: Path) -> Iterator[Segment]:
    """Join a second segment by a router that runs ISC's relay, which adds option 82 and takes only answers with it."""
    router = segment.host(address=f"{GATEWAY}/24")
    with Segment("10.78.0.1/24") as far:
        add = ("ip", "link", "add", "far", "type", "veth", "peer", "name", "port-router")
        router.run(*add, "netns", far.bridge.namespace)
        far.bridge.run("ip", "link", "set", "port-router", "master", "br0", "up")
        router.run("ip", "link", "set", "far", "up")
        router.run("ip", "address", "add", f"{FAR_GATEWAY}/24", "dev", "far")
        router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        segment.server.run("ip", "route", "add", FAR, "via", GATEWAY)
        relay = ("dhcrelay", "-4", "-d", "--no-pid", "-a", "-D", "-id", "far", "-iu", "eth0", SERVER)
        with (folder / "relay.log").open("w") as log:
            process = router.popen(*relay, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield far
        finally:
            process.terminate()
            process.wait()


@requires("dhcrelay")
def test_a_bios_machine_boots_through_a_relay(segment: Segment, folder: Path) -> None:
    here = {"subnet": "10.77.0.0/24"}
    lab = started(segment, folder, "10.78.0.29", subnets=[here, {"subnet": FAR, "routers": [FAR_GATEWAY]}])
    with behind_a_relay(segment, folder) as far:
        recorded = Recorded(far, folder, Firmware.BIOS)
        lab.wait_stage(NAME, "kernel")
        recorded.machine.power_off()
    assert lab.stages(NAME)[:5] == LOADED
    said = (folder / "relay.log").read_text()
    assert "Forwarded BOOTREQUEST" in said
    assert "Forwarded BOOTREPLY" in said
    assert {one.source for one in recorded.dhcp() if one.port == 68} == {IPv4Address(FAR_GATEWAY)}


@requires("dhcrelay")
def test_a_uefi_machine_behind_a_relay_asks_port_4011_across_the_router(segment: Segment, folder: Path) -> None:
    """The lease comes by the relay; the boot file's name straight from us, as EDK2 asks for it."""
    here = {"subnet": "10.77.0.0/24"}
    subnets = [here, {"subnet": FAR, "routers": [FAR_GATEWAY]}]
    lab = started(segment, folder, "10.78.0.29", subnets=subnets, quirks=[BINL])
    with behind_a_relay(segment, folder) as far:
        recorded = Recorded(far, folder, Firmware.UEFI)
        lab.wait_stage(NAME, "kernel")
        recorded.machine.power_off()
    check_asked_4011(lab, recorded)


def test_a_uefi_machine_is_sent_to_port_4011_and_boots(segment: Segment, folder: Path) -> None:
    lab = started(segment, folder, quirks=[BINL])
    recorded = Recorded(segment, folder, Firmware.UEFI)
    lab.wait_stage(NAME, "kernel")
    recorded.machine.power_off()
    check_asked_4011(lab, recorded)


def check_asked_4011(lab: Lab, recorded: Recorded) -> None:
    """EDK2 was given an address without a file on port 68, and the file on port 4011."""
    stages = lab.stages(NAME)
    assert stages[: stages.index("kernel") + 1][-4:] == ["address", "loader", "menu", "kernel"]
    assert "asks port 4011 what to boot" in lab.story(NAME)
    said = recorded.dhcp()
    leases = [one.message for one in said if one.port == 68]
    assert leases
    assert not any(message.file or Option.BOOTFILE_NAME in message.options for message in leases)
    asked = next(one for one in said if one.port == 4011 and one.source != OURS)
    answer = next(one for one in said if one.source == OURS and one.source_port == 4011)
    assert answer.port == asked.source_port
    assert answer.message.xid == asked.message.xid
    assert answer.kind == MessageType.DHCPACK
    assert answer.message.file == b"grub/x86_64-efi/core.efi"
    assert answer.message.yiaddr == NO_ADDRESS


MENU = """\
#!ipxe
dhcp net0
kernel http://{server}/images/{image}/vmlinuz console=ttyS0 farm.script=${{filename}} || shell
boot || shell
"""


def test_ipxe_is_given_its_script_once_and_does_not_loop(segment: Segment, folder: Path) -> None:
    """Its script asks DHCP again, as they do, and is told of itself; it goes on all the same."""
    served = folder / "menus"
    served.mkdir()
    (served / "menu.ipxe").write_text(MENU.format(server=SERVER, image=open_image(IMAGES / "node").image_id))
    url = f"http://{SERVER}:8000/menu.ipxe"
    with web_server(segment, served, folder / "menus.log"):
        lab = started(segment, folder, architectures={"ipxe": {"boot_file": url}})
        recorded = Recorded(segment, folder, Firmware.BIOS)
        console = recorded.machine.wait_for("Kernel command line:")
        recorded.machine.power_off()
    assert f"farm.script={url}" in console
    assert (folder / "menus.log").read_text().count("GET /menu.ipxe") == 1
    assert "loader" not in lab.stages(NAME), "it was given GRUB too"
    discovers = [one for one in recorded.dhcp() if one.kind == MessageType.DHCPDISCOVER]
    assert len({one.message.xid for one in discovers}) == 2, "once for its ROM and once for the script"


@contextmanager
def web_server(segment: Segment, served: Path, log: Path) -> Iterator[None]:
    """Serve a folder on port 8000 of the server's address."""
    argv = ("-m", "http.server", "--bind", SERVER, "--directory", str(served), "8000")
    with log.open("w") as file:
        process = segment.server.popen(sys.executable, *argv, stdout=file, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + SOON_S
    while not listening(segment):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def listening(segment: Segment) -> bool:
    """Return whether somebody listens on port 8000 of the server."""
    return ":8000" in segment.server.run("ss", "-ltnH").stdout
