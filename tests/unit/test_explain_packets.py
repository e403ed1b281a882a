"""pxeboot.explain.packets: made-up packets say what the recorded clients say, option by option, in their order."""

from ipaddress import IPv4Address
from uuid import UUID

import pytest

from config.architectures import BY_NAME
from dhcp import boot, wire
from dhcp.options import MessageType, Option
from dhcp.request import BOOT_SERVER_PORT
from dhcp.wire import Message, options_in
from pxeboot.explain import packets
from pxeboot.explain.packets import Sender
from pxeboot.probe.client import Kind
from tests.support.dhcp_clients import RECORDED, recorded

MAC = "52:54:00:12:34:56"
PI = "b8:27:eb:12:34:56"
NEWER_PI = "02:00:00:12:34:56"
SERVER = IPv4Address("10.77.0.1")


def sender(name: str, kind: Kind = Kind.PXE, mac: str = MAC, **more: object) -> Sender:
    return Sender(bytes.fromhex(mac.replace(":", "")), kind, BY_NAME[name], **more)  # type: ignore[arg-type]


VARIABLE = {Option.CLIENT_MACHINE_IDENTIFIER, Option.CLIENT_IDENTIFIER}
"""Each machine's own."""


@pytest.mark.parametrize(
    ("made", "name", "but"),
    [
        pytest.param(sender("uefi-x64"), "D-EDK2-PXE", {}, id="uefi"),
        pytest.param(sender("uefi-arm64"), "D-EDK2-ARM64", {}, id="arm64"),
        # The byte ea in the recorded list is memory that was never written.
        pytest.param(sender("uefi-x64-http", Kind.HTTP), "D-EDK2-HTTP", {55: b"\xea"}, id="http"),
        pytest.param(sender("bios", Kind.IPXE), "D-IPXE-BIOS", {}, id="ipxe"),
        pytest.param(sender("uboot-arm64"), "D-UBOOT", {}, id="u-boot"),
        pytest.param(sender("rpi", mac=PI), "D-RPI", {}, id="pi"),
        pytest.param(sender("rpi", mac=NEWER_PI), "D-RPI-CODE", {}, id="pi-by-code"),
        pytest.param(sender("bios", Kind.PLAIN), "D-IPCONFIG", {}, id="plain"),
    ],
)
def test_a_discover_says_what_was_recorded_in_the_same_order(made: Sender, name: str, but: dict[int, bytes]) -> None:
    ours = packets.discover(made).options
    theirs = dict(options_in(RECORDED[name][4:]))
    assert [*ours] == [*theirs]
    for code, value in theirs.items():
        if code in but:
            value = value.replace(but[code], b"")
        if code == Option.PARAMETER_REQUEST_LIST and name == "D-EDK2-HTTP":
            value = value[:-1] if len(value) > len(ours[code]) else value
        if code in VARIABLE:
            assert len(ours[code]) == len(value)
        elif code == 175:  # which card it is, in its first sub-option
            assert ours[code][:3] == value[:3]
        else:
            assert ours[code] == value, code


def test_ipxe_on_uefi_differs_in_the_options_that_were_recorded_for_it() -> None:
    ours = packets.discover(sender("uefi-x64", Kind.IPXE)).options
    theirs = dict(options_in(RECORDED["D-IPXE-EFI"] + b"\xff"))
    assert ours[Option.CLIENT_SYSTEM_ARCHITECTURE] == theirs[Option.CLIENT_SYSTEM_ARCHITECTURE]


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("kind", Kind)
def test_every_architecture_is_recognised_for_what_it_was_made_up_as(name: str, kind: Kind) -> None:
    made = packets.discover(sender(name, kind))
    client = boot.client(made.options, MAC)
    assert wire.decode(made.encode()) == made
    if kind is Kind.PLAIN:
        assert not client.boots
    else:
        assert client.architecture == BY_NAME[name].code
        assert client.boots
        assert client.ipxe is (kind is Kind.IPXE)


def test_uefi_wants_broadcast_and_a_rom_does_not() -> None:
    assert packets.discover(sender("uefi-x64")).flags == 0x8000
    assert packets.discover(sender("bios")).flags == 0
    assert packets.discover(sender("uefi-x64", Kind.IPXE)).flags == 0


def test_a_uuid_is_sent_in_the_byte_order_of_efi() -> None:
    made = sender("uefi-x64", uuid=UUID("00112233-4455-6677-8899-aabbccddeeff"))
    value = packets.discover(made).options[Option.CLIENT_MACHINE_IDENTIFIER]
    assert value == dict(options_in(RECORDED["D-EDK2-PXE"][4:]))[Option.CLIENT_MACHINE_IDENTIFIER]


def test_a_relay_adds_its_address_and_what_it_knows_last() -> None:
    relay = IPv4Address("10.78.0.1")
    made = packets.discover(sender("bios", giaddr=relay, circuit_id=b"eth0", remote_id=b"sw1"))
    assert (made.giaddr, made.hops) == (relay, 1)
    assert [*made.options][-1] == Option.RELAY_AGENT_INFORMATION
    assert made.options[Option.RELAY_AGENT_INFORMATION] == b"\x01\x04eth0\x02\x03sw1"
    arrival = packets.arrival_of(made, SERVER)
    assert (arrival.unicast, arrival.source, arrival.source_port) == (True, relay, 67)


def test_a_request_takes_an_offer() -> None:
    address = IPv4Address("10.77.0.10")
    made = packets.request(sender("uefi-x64"), address, SERVER)
    theirs = [code for code, _ in options_in(RECORDED["D-OVMF-PXE-REQ"][4:])]
    assert [*made.options] == theirs
    assert (made.options[50], made.options[54]) == (address.packed, SERVER.packed)


def test_the_boot_server_is_asked_as_it_was_recorded() -> None:
    address = IPv4Address("10.77.0.10")
    made = packets.boot_server(packets.discover(sender("uefi-x64")), address)
    theirs = recorded("D-EDK2-4011").options
    assert [*made.options] == [*theirs]
    assert made.ciaddr == address
    assert made.options[53] == bytes((MessageType.DHCPREQUEST,))
    arrival = packets.boot_server_arrival(made, SERVER, uefi=True)
    assert (arrival.port, arrival.source_port, arrival.source) == (BOOT_SERVER_PORT, 4011, address)
    assert packets.boot_server_arrival(made, SERVER, uefi=False).source_port == 68


def test_a_bootp_request_has_no_options() -> None:
    made: Message = packets.bootp(sender("bios"))
    assert not made.options
