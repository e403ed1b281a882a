"""Our own server's answers, read by the models of the clients: what a machine would do that hears them."""

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest
from scapy.layers.dhcp import BOOTP, DHCP

from dhcp import wire
from dhcp.engine import Server
from dhcp.models import next_steps
from dhcp.options import MessageType, Option
from dhcp.plan import plan
from dhcp.replies import EVERYBODY, Send
from dhcp.request import BOOT_SERVER_PORT, Arrival
from dhcp.wire import Message, options_in
from tests.support.dhcp_clients import ARRIVAL, FARM, KNOWN, OWN_ADDRESS, RECORDED, SERVER, farm, recorded

NOW = 1_790_000_000.0
PI_3, PI_4 = "b8:27:eb:00:00:01", "dc:a6:32:00:00:01"
SCRIPT = "http://10.77.0.1/boot.ipxe"
ARCHITECTURES = {
    "ipxe": {"boot_file": SCRIPT},
    "uefi-arm64": {"boot_file": "grub/arm64-efi/core.efi"},
    "uboot-arm64": {"boot_file": "boot.scr.uimg"},
    "uboot-arm32": {"boot_file": "boot32.scr.uimg"},
}
IPXE_EFI = dict(options_in(RECORDED["D-IPXE-EFI"] + b"\xff"))
NO_ARCHITECTURE = dict(options_in(RECORDED["D-UBOOT-NOARCH"] + b"\xff"))
SMALL = dict(options_in(RECORDED["D-UBOOT-57"] + b"\xff"))
REQUEST = {53: bytes((MessageType.DHCPREQUEST,)), 54: SERVER.packed, 50: OWN_ADDRESS.packed}
BOOT_SERVER = Arrival(SERVER, unicast=True, source_port=4011, port=BOOT_SERVER_PORT, source=OWN_ADDRESS)


def sent(ask: Message, arrival: Arrival = ARRIVAL, **dhcp: Any) -> Send:
    """Return what our server, with these settings, sends to a client."""
    actions = Server(plan(farm(**dhcp)), (), NOW).receive(ask, arrival, NOW)
    return next(action for action in actions if isinstance(action, Send))


def heard(reply: Send) -> Message:
    """Return what arrives of it."""
    return wire.decode(reply.pack().data)


def does(ask: Message, *replies: Send) -> str:
    """Return what the client does that hears them, if its boot goes on."""
    overloaded = any(code == 52 for reply in replies for code, _ in options_in(reply.pack().data[240:]))
    steps = next_steps(ask, *(heard(reply) for reply in replies), overloaded=overloaded)
    assert all(step.ok for step in steps), steps
    return "; ".join(step.what for step in steps)


BOOTS = {
    "D-EDK2-PXE": (recorded("D-EDK2-PXE"), "by TFTP for the size of 'grub/x86_64-efi/core.efi'"),
    "D-OVMF-PXE": (recorded("D-OVMF-PXE", flags=0x8000), "(our GRUB) asks the server that it came from by HTTP"),
    "D-OVMF-PXE-REQ": (
        recorded("D-OVMF-PXE-REQ", options=REQUEST),
        "(our GRUB) asks the server that it came from by HTTP",
    ),
    "D-EDK2-HTTP": (recorded("D-EDK2-HTTP"), "asks for http://10.77.0.1/grub/x86_64-efi/core.efi by HTTP"),
    "D-EDK2-ARM64": (recorded("D-EDK2-ARM64"), "'grub/arm64-efi/core.efi'"),
    "D-HUAWEI": (recorded("D-HUAWEI"), "'grub/x86_64-efi/core.efi'"),
    "D-NO-CLASS": (recorded("D-NO-CLASS"), "'grub/x86_64-efi/core.efi'"),
    "D-IPXE-BIOS": (recorded("D-IPXE-BIOS"), f"fetches {SCRIPT} and runs the script"),
    "D-IPXE-EFI": (recorded("D-IPXE-BIOS", options=IPXE_EFI), f"fetches {SCRIPT} and runs the script"),
    "D-FLEXBOOT": (recorded("D-FLEXBOOT"), f"fetches {SCRIPT} and runs the script"),
    "D-UBOOT": (recorded("D-UBOOT"), "fetches 'boot.scr.uimg' by TFTP from 10.77.0.1"),
    "D-UBOOT, broadcast": (recorded("D-UBOOT", flags=0x8000), "fetches 'boot.scr.uimg'"),
    "D-UBOOT-NOARCH": (recorded("D-UBOOT", options=NO_ARCHITECTURE), "fetches 'boot.scr.uimg'"),
    "D-UBOOT-57": (recorded("D-UBOOT", options=SMALL), "fetches 'boot.scr.uimg'"),
    "D-UBOOT-ARM32": (recorded("D-UBOOT-ARM32"), "fetches 'boot32.scr.uimg'"),
    "D-RPI": (recorded("D-RPI", PI_4), "fetches start4.elf or start.elf by TFTP from 10.77.0.1"),
    "D-RPI, Pi 3": (recorded("D-RPI", PI_3, flags=0x8000), "fetches start4.elf"),
    "D-RPI-ID": (recorded("D-RPI-ID"), "fetches start4.elf"),
    "D-RPI-CODE": (recorded("D-RPI-CODE"), "fetches start4.elf"),
    "D-BOOTP": (recorded("D-BOOTP"), "fetches 'grub/i386-pc/core.0'"),
    "D-IPCONFIG": (recorded("D-IPCONFIG"), "uses the address for 86400 s"),
}


@pytest.mark.parametrize("name", BOOTS)
def test_every_recorded_client_boots_from_what_we_answer(name: str) -> None:
    ask, what = BOOTS[name]
    assert what in does(ask, sent(ask, architectures=ARCHITECTURES))


def test_scenario_1_the_flag_decides_who_hears_it() -> None:
    ask = recorded("D-EDK2-PXE", flags=0x8000)
    assert sent(ask).destination.address == EVERYBODY
    alone = sent(replace(ask, flags=0)).destination
    assert (alone.address, alone.hardware) == (OWN_ADDRESS, ask.chaddr)


def test_scenario_1_a_quirk_decides_it_over_the_flag() -> None:
    quirk = {"name": "deaf", "match": {"macs": [KNOWN]}, "force_broadcast": True}
    assert sent(recorded("D-EDK2-PXE"), quirks=[quirk]).destination.address == EVERYBODY


def test_scenario_3_a_client_that_is_sent_to_4011_gets_its_file_there() -> None:
    quirk = {"name": "binl", "match": {"macs": [KNOWN]}, "boot_server": True}
    ask = recorded("D-EDK2-PXE")
    offer = sent(ask, quirks=[quirk])
    assert "asks UDP 4011 at 10.77.0.1 for its boot file" in does(ask, offer)
    assert heard(offer).file == b""
    at_4011 = recorded("D-EDK2-4011", ciaddr=OWN_ADDRESS)
    ack = sent(at_4011, BOOT_SERVER, quirks=[quirk])
    assert (ack.source_port, ack.destination.port, ack.destination.address) == (4011, 4011, OWN_ADDRESS)
    assert "by TFTP for the size of 'grub/x86_64-efi/core.efi'" in does(at_4011, ack)


@pytest.mark.parametrize("name", ["D-EDK2-PXE", "D-EDK2-ARM64", "D-HUAWEI", "D-IPXE-BIOS", "D-EDK2-HTTP"])
@pytest.mark.parametrize("first", [True, False], ids=["theirs-first", "ours-first"])
def test_scenario_5_beside_another_server_our_proxy_says_what_to_boot(name: str, first: bool) -> None:
    ask = recorded(name)
    proxied: dict[str, Any] = {"subnets": [{"subnet": "10.77.0.0/24", "unknown": "workers", "proxy": True}]}
    ours = sent(ask, architectures=ARCHITECTURES, **proxied)
    assert heard(ours).yiaddr == IPv4Address(0)
    theirs = Message(
        wire.Op.BOOTREPLY,
        ask.xid,
        ask.chaddr,
        yiaddr=OWN_ADDRESS,
        options={53: b"\2", 54: bytes((10, 77, 0, 2)), 51: bytes((0, 0, 14, 16))},
    )
    both = (theirs, heard(ours)) if first else (heard(ours), theirs)
    steps = next_steps(ask, *both)
    assert all(step.ok for step in steps), steps
    assert "from 10.77.0.2" in steps[0].what


@pytest.mark.parametrize("user_class", [None, b"iPXE", bytes.fromhex("04") + b"iPXE", b"\3lab"])
def test_scenario_6_a_chain_through_ipxe_ends_with_the_script(user_class: bytes | None) -> None:
    chain = {"uefi-x64": {"boot_file": "ipxe.efi"}, "ipxe": {"boot_file": SCRIPT}}
    firmware = recorded("D-EDK2-PXE")
    assert "'ipxe.efi'" in does(firmware, sent(firmware, architectures=chain))
    ipxe = recorded("D-IPXE-BIOS", options=IPXE_EFI)
    said = {code: value for code, value in ipxe.options.items() if code != 77}
    ipxe = replace(ipxe, options=said | ({77: user_class} if user_class is not None else {}))
    assert "runs the script" in does(ipxe, sent(ipxe, architectures=chain))


def test_scenario_6_without_a_script_ipxe_starts_our_grub() -> None:
    ipxe = recorded("D-IPXE-BIOS", options=IPXE_EFI)
    only = sent(ipxe, architectures={"uefi-x64": {"boot_file": "ipxe.efi"}})
    assert "fetches 'grub/x86_64-efi/core.efi' by TFTP" in does(ipxe, only)


@pytest.mark.parametrize("garbage", [0xEA, 0, 255, 52, 82])
def test_scenario_7_http_boot_with_a_garbage_byte_in_its_request_list(garbage: int) -> None:
    ask = recorded("D-EDK2-HTTP")
    asked = bytearray(ask.options[Option.PARAMETER_REQUEST_LIST])
    asked[24] = garbage
    ask = replace(ask, options=dict(ask.options) | {55: bytes(asked)})
    reply = sent(ask)
    assert "HEAD, then GET" in does(ask, reply)
    data = reply.pack().data
    assert len(data) <= 1472
    offer = heard(reply)
    assert offer.options[60] == b"HTTPClient\0"
    assert offer.options[67].rstrip(b"\0") == offer.file == b"http://10.77.0.1/grub/x86_64-efi/core.efi"
    assert not {52, 82} & {code for code, _ in options_in(data[240:])}
    assert ("vendor_class_id", b"HTTPClient\0") in BOOTP(data)[DHCP].options, "and so says scapy"


def test_scenario_7_a_path_of_the_configuration_becomes_a_url_without_double_slash() -> None:
    ask = recorded("D-EDK2-HTTP")
    reply = sent(ask, architectures={"uefi-x64": {"boot_file": "/efi//shim.efi"}})
    assert "asks for http://10.77.0.1/efi/shim.efi by HTTP" in does(ask, reply)


@pytest.mark.parametrize("name", ["D-UBOOT", "D-UBOOT-NOARCH", "D-UBOOT-57"])
def test_scenario_8_u_boot_gets_a_small_packet_without_overload(name: str) -> None:
    ask, _ = BOOTS[name]
    much: dict[str, Any] = {"options": {str(code): "00" * 60 for code in range(224, 234)}}
    data = sent(ask, architectures=ARCHITECTURES, **much).pack().data
    assert 300 <= len(data) <= 548
    assert 52 not in [code for code, _ in options_in(data[240:])]
    assert wire.decode(data).file == b"boot.scr.uimg"


def test_scenario_8_u_boot_is_told_209_if_it_is_set() -> None:
    reply = sent(recorded("D-UBOOT"), options={"209": "pxelinux.cfg/farm"})
    assert heard(reply).options[209].rstrip(b"\0") == b"pxelinux.cfg/farm"


@pytest.mark.parametrize(("mac", "length"), [(PI_4, 0x20), (PI_3, 0x23)])
def test_scenario_9_a_pi_hears_its_words_and_no_pads(mac: str, length: int) -> None:
    data = sent(recorded("D-RPI", mac)).pack().data
    offer = wire.decode(data)
    assert (len(offer.options[43]), offer.options[66]) == (length, b"10.77.0.1")
    options = data[240:]
    assert wire.PAD not in options[: options.rindex(b"\xff")][_ends(options)], "no pad between options"


def _ends(options: bytes) -> slice:
    """Where the options end that one can walk from the first, without a pad between them."""
    at = 0
    while options[at] not in (wire.PAD, wire.END):
        at += 2 + options[at + 1]
    return slice(at, at) if options[at] == wire.END else slice(at, at + 1)


@pytest.mark.parametrize("machine_id", [None, bytes(17), b"\0" + bytes(range(16)), b"\0" * 16, b"\1" + bytes(16)])
@pytest.mark.parametrize("architecture", ["", "ffff", "0007 0010", "0007"])
@pytest.mark.parametrize("interface", [None, b"\1\0\0"])
def test_scenario_10_what_is_missing_or_odd_changes_nothing(
    machine_id: bytes | None, architecture: str, interface: bytes | None
) -> None:
    ask = recorded("D-EDK2-PXE")
    odd = {97: machine_id, 93: bytes.fromhex(architecture) or None, 94: interface}
    ask = replace(ask, options={c: v for c, v in (dict(ask.options) | odd).items() if v is not None})
    reply = sent(ask)
    assert "'grub/x86_64-efi/core.efi'" in does(ask, reply)
    echoed = machine_id if machine_id is not None and len(machine_id) == 17 and machine_id[0] == 0 else None
    assert heard(reply).options.get(97) == echoed


def test_scenario_10_the_lease_stays_while_the_client_id_changes() -> None:
    server = Server(plan(farm()), (), NOW)
    stages = [{}, {61: bytes.fromhex("01 02 00 00 00 00 99")}, {61: bytes.fromhex("ff 00 02 00 00 ab 11")}]
    given = []
    for said in stages:
        ask = recorded("D-EDK2-PXE", "02:00:00:00:00:99", options=said)
        offer = next(action for action in server.receive(ask, ARRIVAL, NOW) if isinstance(action, Send))
        given.append(offer.message.yiaddr)
    assert len(set(given)) == 1


@pytest.mark.parametrize("longest", [64, 0, 65280, 576, 1472])
def test_scenario_11_a_long_name_goes_into_67_alone_and_a_wrong_57_means_576(longest: int) -> None:
    name = "d/" * 70 + "core.efi"
    ask = recorded("D-EDK2-PXE", options={57: longest.to_bytes(2, "big")})
    reply = sent(ask, architectures={"uefi-x64": {"boot_file": name}})
    data = reply.pack().data
    offer = wire.decode(data)
    assert len(data) <= (548 if longest < 576 else min(longest, 1500) - 28)
    assert (offer.file, offer.options[67]) == (b"", name.encode() + b"\0")
    assert {53, 54, 51, 1} <= set(offer.options)
    assert name in does(ask, reply)


def test_scenario_14_two_cards_of_one_machine_get_its_one_address() -> None:
    server = Server(plan(farm()), (), NOW)
    macs = FARM["pools"][0]["nodes"][0]["macs"]
    asks = [recorded("D-EDK2-PXE", mac) for mac in macs]
    offers = [next(a for a in server.receive(ask, ARRIVAL, NOW) if isinstance(a, Send)) for ask in asks]
    assert {offer.message.yiaddr for offer in offers} == {OWN_ADDRESS}
    assert [offer.message.chaddr for offer in offers] == [ask.chaddr for ask in asks]


def test_scenario_14_pis_of_one_xid_get_an_address_each() -> None:
    server = Server(plan(farm()), (), NOW)
    asks = [recorded("D-RPI", f"dc:a6:32:00:00:0{i}", xid=0x26F30339) for i in range(1, 5)]
    offers = [next(a for a in server.receive(ask, ARRIVAL, NOW) if isinstance(a, Send)) for ask in asks]
    assert len({offer.message.yiaddr for offer in offers}) == 4
    for ask, offer in zip(asks, offers, strict=True):
        assert "start4.elf" in does(ask, offer)


def test_a_guid_for_a_hardware_address_is_answered_to_everybody() -> None:
    ask = recorded("D-EDK2-PXE", chaddr=bytes(range(1, 17)))
    reply = sent(ask)
    assert reply.destination.address == EVERYBODY
    assert "by TFTP" in does(ask, reply)


def test_a_reply_waits_where_a_quirk_says_so() -> None:
    quirk = {"name": "slow", "match": {"macs": [KNOWN]}, "reply_delay_s": 1.5}
    assert sent(recorded("D-EDK2-PXE"), quirks=[quirk]).delay_s == 1.5
    assert sent(recorded("D-EDK2-PXE")).delay_s == 0
