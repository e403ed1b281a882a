"""What `pxeboot probe dhcp` sends, how it reads answers, and what it thinks of them."""

import socket
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhcp import wire
from dhcp.models import Model, model_for
from dhcp.options import MessageType, Option
from dhcp.overheard import Datagram
from dhcp.request import PROBE
from dhcp.sniff import Frame
from pxeboot.probe import dhcp
from pxeboot.probe.answers import Answer, answer_json, boot_words, judge, vendor_words
from pxeboot.probe.client import Client, Kind, architecture
from tests.support.dhcp_clients import KNOWN, RECORDED, message, recorded

MAC = bytes.fromhex(KNOWN.replace(":", ""))
SERVER = IPv4Address("10.77.0.1")
XID = 0x1234


@pytest.mark.parametrize(
    ("name", "kind", "arch"),
    [("D-EDK2-PXE", Kind.PXE, "uefi-x64"), ("D-EDK2-HTTP", Kind.HTTP, "x64"), ("D-IPXE-BIOS", Kind.IPXE, "bios")],
)
def test_it_says_what_the_recorded_firmware_says(name: str, kind: Kind, arch: str) -> None:
    """In its order; its UUID and MAC are another machine's, and EDK2's HTTP list has a byte of garbage."""
    of_one_machine = {Option.CLIENT_MACHINE_IDENTIFIER, Option.CLIENT_IDENTIFIER}
    recorded = [*wire.options_in(RECORDED[name][4:])][1:]
    said = Client(kind, architecture(arch, kind), MAC).options()
    assert [code for code, _ in said] == [code for code, _ in recorded]
    for (code, value), (_, like) in zip(said, recorded, strict=True):
        if code not in of_one_machine:
            assert value == like.replace(b"\xea", b"")
        assert len(value) == len(like.replace(b"\xea", b""))


def test_a_plain_client_says_nothing_of_booting() -> None:
    said = dict(Client(Kind.PLAIN, architecture("bios", Kind.PLAIN), MAC).options())
    assert set(said) == {Option.MAXIMUM_DHCP_MESSAGE_SIZE, Option.PARAMETER_REQUEST_LIST}


@pytest.mark.parametrize(
    ("kind", "arch", "broadcast"),
    [
        (Kind.PXE, "bios", False),
        (Kind.PXE, "arm64", True),
        (Kind.HTTP, "x64", True),
        (Kind.IPXE, "x64", False),
        (Kind.PLAIN, "x64", False),
    ],
)
def test_uefi_firmware_wants_broadcast_answers(kind: Kind, arch: str, broadcast: bool) -> None:
    assert Client(kind, architecture(arch, kind), MAC).broadcast is broadcast


@pytest.mark.parametrize(
    ("text", "kind", "code", "name"),
    [
        ("bios", Kind.PXE, 0, "bios"),
        ("uefi-arm64", Kind.PXE, 11, "uefi-arm64"),
        ("arm64", Kind.HTTP, 0x13, "uefi-arm64-http"),
        ("16", Kind.PXE, 16, "uefi-x64-http"),
        ("0x27", Kind.HTTP, 0x28, "uefi-loongarch64-http"),
        ("rpi", Kind.HTTP, 0x29, "rpi"),
        ("999", Kind.PXE, 999, "0x3e7"),
    ],
)
def test_an_architecture_has_a_name_a_short_name_and_a_code(text: str, kind: Kind, code: int, name: str) -> None:
    found = architecture(text, kind)
    assert (found.code, found.name) == (code, name)


@pytest.mark.parametrize("text", ["", "amd64", "65536", "-1", "7.0"])
def test_what_is_no_architecture_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no architecture"):
        architecture(text, Kind.PXE)


# Reading answers: our own codec makes them, scapy reads them.


def frame(message: wire.Message | bytes) -> Frame:
    data = message if isinstance(message, bytes) else message.encode()
    return Frame(Datagram(SERVER, 67, IPv4Address("255.255.255.255"), 68, data), "52:54:00:aa:bb:cc", 1)


def reply(kind: MessageType | None = MessageType.DHCPOFFER, **fields: Any) -> wire.Message:
    return message(kind, KNOWN, op=wire.Op.BOOTREPLY, **fields)


OFFER = reply(
    yiaddr=IPv4Address("10.77.0.10"),
    siaddr=SERVER,
    giaddr=IPv4Address("10.77.0.254"),
    sname=b"10.77.0.1",
    file=b"grub/core.efi",
    options={
        Option.SERVER_IDENTIFIER: IPv4Address("10.77.0.9").packed,
        Option.IP_ADDRESS_LEASE_TIME: (3600).to_bytes(4, "big"),
        Option.SUBNET_MASK: bytes((255, 255, 0, 0)),
        Option.ROUTER: bytes((10, 77, 0, 1, 10, 77, 0, 2)),
        Option.VENDOR_CLASS_IDENTIFIER: b"PXEClient",
        Option.VENDOR_SPECIFIC_INFORMATION: bytes.fromhex("060108ff"),
    },
)
READ = Answer(
    message_type="OFFER",
    server_id=IPv4Address("10.77.0.9"),
    mac="52:54:00:aa:bb:cc",
    source=SERVER,
    delay_s=0.5,
    size_bytes=300,
    address=IPv4Address("10.77.0.10"),
    lease_s=3600,
    subnet_mask=IPv4Address("255.255.0.0"),
    routers=(IPv4Address("10.77.0.1"), IPv4Address("10.77.0.2")),
    boot_file="grub/core.efi",
    next_server=SERVER,
    tftp_server="10.77.0.1",
    vendor_class="PXEClient",
    vendor_options=bytes.fromhex("060108ff"),
    relay=IPv4Address("10.77.0.254"),
)


def test_an_offer_is_read_whole() -> None:
    assert dhcp.read(frame(OFFER), XID, MAC, 0.5) == READ


def test_options_in_file_and_sname_and_split_options_are_read() -> None:
    """RFC 2131 section 4.1, RFC 3396: a URL of 300 bytes, and a small packet."""
    long = replace(OFFER, file=b"", sname=b"", options={**OFFER.options, Option.BOOTFILE_NAME: b"u" * 300 + b"\0"})
    answer = dhcp.read(frame(long), XID, MAC, 0.0)
    assert answer is not None
    assert (answer.boot_file, answer.damaged) == ("u" * 300, False)
    small = replace(OFFER, file=b"", sname=b"", options={**OFFER.options, Option.BOOTFILE_NAME: b"f" * 100,
                                                         Option.MESSAGE: b"m" * 50})  # fmt: skip
    packed = small.pack(300)
    assert not packed.left_out
    answer = dhcp.read(frame(packed.data), XID, MAC, 0.0)
    assert answer is not None
    assert (answer.boot_file, answer.message, answer.tftp_server) == ("f" * 100, "m" * 50, "")


@pytest.mark.parametrize(
    "other",
    [
        replace(OFFER, xid=XID + 1),
        replace(OFFER, chaddr=MAC[:5] + b"\x99"),
        replace(OFFER, op=wire.Op.BOOTREQUEST),
        b"",
        b"\x02" * 100,
    ],
)
def test_what_is_no_answer_to_us_is_none(other: wire.Message | bytes) -> None:
    assert dhcp.read(frame(other), XID, MAC, 0.0) is None


@given(st.binary(max_size=300))
def test_odd_options_are_an_answer_all_the_same(options: bytes) -> None:
    head = OFFER.encode()[:240]
    answer = dhcp.read(frame(head + options), XID, MAC, 0.0)
    assert answer is not None
    assert answer_json(answer)["address"] == "10.77.0.10"


def test_an_answer_whose_options_break_off_is_called_damaged() -> None:
    answer = dhcp.read(frame(OFFER.encode()[:240] + bytes.fromhex("350102 3604 0a4d")), XID, MAC, 0.0)
    assert answer is not None
    assert (answer.damaged, answer.message_type, answer.server_id) == (True, "OFFER", SERVER)
    assert judge(Kind.PLAIN, [answer], 5).problems == (f"the options of {answer.name} cannot be read to their end",)


def test_a_bootp_reply_and_a_nak_are_told_apart() -> None:
    bootp = dhcp.read(frame(reply(None, yiaddr=SERVER)), XID, MAC, 0.0)
    nak = dhcp.read(frame(reply(MessageType.DHCPNAK, options={Option.MESSAGE: b"no\x1b"})), XID, MAC, 0.0)
    odd = dhcp.read(frame(reply(MessageType.DHCPINFORM)), XID, MAC, 0.0)
    assert bootp is not None
    assert nak is not None
    assert odd is not None
    assert [answer.message_type for answer in (bootp, nak, odd)] == ["BOOTP", "NAK", "type 8"]
    assert nak.message == "no\x1b"


# What is thought of them.


def answer(number: int, address: str = "", **fields: Any) -> Answer:
    return Answer(
        message_type="OFFER",
        server_id=IPv4Address(f"10.77.0.{number}"),
        mac=f"52:54:00:00:00:{number:02x}",
        source=IPv4Address(f"10.77.0.{number}"),
        delay_s=number / 1000,
        size_bytes=300,
        address=IPv4Address(address) if address else None,
        **fields,
    )


PLAIN = answer(1, "10.77.0.51")
WHOLE = answer(2, "10.77.0.52", boot_file="b", next_server=SERVER, vendor_class="PXEClient")
UNMARKED = answer(3, "10.77.0.53", boot_file="c")
PROXY = answer(4, boot_file="d", vendor_class="PXEClient")
BINL = answer(5, vendor_class="PXEClient")
MENU = answer(6, vendor_class="PXEClient", vendor_options=bytes.fromhex("0807 8000 01 0a4d0001 ff"))
HTTP = answer(7, "10.77.0.57", boot_file="http://10.77.0.7/g.efi", vendor_class="HTTPClient")
HTTP_PROXY = answer(8, boot_file="http://10.77.0.8/g.efi", vendor_class="HTTPClient")
UNMARKED_URL = answer(9, "10.77.0.59", boot_file="http://10.77.0.9/g.efi")
DISCOVERY = answer(10, vendor_class="PXEClient", vendor_options=bytes.fromhex("060108ff"))

TWO_BOOT = "2 servers say what to boot, and disagree: "
JUDGED = [
    pytest.param(Kind.PXE, [], (None, None), ["nobody answered within 5 s"], id="nobody"),
    pytest.param(Kind.PXE, [WHOLE], (WHOLE, WHOLE), [], id="one-server"),
    pytest.param(Kind.PXE, [UNMARKED], (UNMARKED, UNMARKED), [], id="one-server-not-marked"),
    pytest.param(Kind.PXE, [PLAIN], (PLAIN, None), ["nobody says what to boot by PXE"], id="only-an-address"),
    pytest.param(Kind.PXE, [PROXY], (None, None), ["nobody offers an address", "nobody says what to boot by PXE"],
                 id="only-a-proxy"),
    pytest.param(Kind.PXE, [PLAIN, PROXY], (PLAIN, PROXY), [], id="address-and-proxy"),
    pytest.param(Kind.PXE, [BINL, PLAIN], (PLAIN, BINL), [], id="port-4011"),
    pytest.param(Kind.PXE, [PLAIN, MENU], (PLAIN, MENU), [], id="boot-menu"),
    pytest.param(Kind.PXE, [PLAIN, DISCOVERY], (PLAIN, None), ["nobody says what to boot by PXE"],
                 id="use-the-file-and-there-is-none"),
    pytest.param(
        Kind.PXE, [PLAIN, WHOLE], (WHOLE, WHOLE),
        ["2 servers offer different addresses: 10.77.0.51 by 10.77.0.1 (52:54:00:00:00:01);"
         " 10.77.0.52 by 10.77.0.2 (52:54:00:00:00:02)"], id="a-second-dhcp-server"),
    pytest.param(
        Kind.PXE, [WHOLE, PROXY], (WHOLE, WHOLE),
        [f"{TWO_BOOT}'b' from 10.77.0.1 by {WHOLE.name}; 'd' by {PROXY.name}"], id="a-second-boot-server"),
    pytest.param(
        Kind.PXE, [UNMARKED, PROXY], (UNMARKED, PROXY),
        [f"{TWO_BOOT}'c' by {UNMARKED.name}; 'd' by {PROXY.name}"], id="the-marked-one-wins"),
    pytest.param(
        Kind.PXE, [WHOLE, replace(WHOLE, mac="52:54:00:00:00:99")], (WHOLE, WHOLE),
        [f"2 servers offer the same address: 10.77.0.52 by {WHOLE.name}; 10.77.0.52 by 10.77.0.2 (52:54:00:00:00:99)",
         f"2 servers say what to boot, and agree: 'b' from 10.77.0.1 by {WHOLE.name};"
         " 'b' from 10.77.0.1 by 10.77.0.2 (52:54:00:00:00:99)"], id="two-that-agree"),
    pytest.param(Kind.PXE, [WHOLE, replace(WHOLE, delay_s=4.0)], (WHOLE, WHOLE), [], id="one-server-twice"),
    pytest.param(Kind.HTTP, [HTTP], (HTTP, HTTP), [], id="http"),
    pytest.param(Kind.HTTP, [PLAIN, HTTP_PROXY], (PLAIN, HTTP_PROXY), [], id="http-proxy"),
    pytest.param(Kind.HTTP, [UNMARKED_URL], (UNMARKED_URL, None),
                 ["nobody says what to boot by HTTP (option 60 HTTPClient with a URL)"], id="http-not-marked"),
    pytest.param(Kind.HTTP, [replace(HTTP, boot_file="g.efi")], (replace(HTTP, boot_file="g.efi"), None),
                 ["nobody says what to boot by HTTP (option 60 HTTPClient with a URL)"], id="http-without-url"),
    pytest.param(Kind.IPXE, [UNMARKED], (UNMARKED, UNMARKED), [], id="ipxe"),
    pytest.param(Kind.IPXE, [PLAIN, PROXY], (PLAIN, PROXY), [], id="ipxe-proxy"),
    pytest.param(Kind.PLAIN, [PLAIN], (PLAIN, None), [], id="plain"),
    pytest.param(Kind.PLAIN, [PROXY], (None, None), ["nobody offers an address"], id="plain-hears-a-proxy"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "answers", "chosen", "problems"), JUDGED)
def test_answers_are_judged(
    kind: Kind, answers: list[Answer], chosen: tuple[Answer | None, Answer | None], problems: list[str]
) -> None:
    verdict = judge(kind, answers, 5)
    assert (verdict.address_from, verdict.boot_from) == chosen
    assert [*verdict.problems] == problems


def test_what_to_boot_is_said_in_words() -> None:
    assert boot_words(HTTP) == "'http://10.77.0.7/g.efi'"
    assert boot_words(BINL) == "what UDP port 4011 says"
    assert boot_words(MENU) == "what a boot server of its menu says"
    assert boot_words(answer(1, boot_file="\x1b[31m")) == "'\\x1b[31m'"


@pytest.mark.parametrize(
    ("recorded", "words"),
    [
        ("", []),
        ("060108ff", ["discovery control 8: use the file of this answer"]),
        ("060103 0a0400505845 ff", ["discovery control 3", "prompt after 0 s: 'PXE'"]),
        ("060103 0a04ff505845", ["discovery control 3", "prompt: 'PXE'"]),
        ("080780000 10a4d0001 0907800004 4c696e78", ["boot servers 80 00 01 0a 4d 00 01", "menu 'Linx'"]),
        ("0604 00000008 4704 80000000", ["tag 6 00 00 00 08", "boot item 80 00 00 00"]),
        ("0104e0000001 0a00", ["MTFTP address e0 00 00 01", "tag 10 "]),
        ("01", ["01"]),
    ],
)
def test_option_43_is_said_in_words(recorded: str, words: list[str]) -> None:
    assert vendor_words(bytes.fromhex(recorded.replace(" ", ""))) == words


MENU_PROMPT_ONLY = bytes.fromhex("0a 06 03 68656c6c6f ff")
AT_ONCE = bytes.fromhex("06 01 08 ff")


@pytest.mark.parametrize(
    ("option_43", "says"),
    [(AT_ONCE, None), (MENU_PROMPT_ONLY, "the machine ends its network boot (PXE-E21)")],
)
def test_an_offer_whose_option_43_ends_the_boot_is_wrong_though_it_names_a_file(
    option_43: bytes, says: str | None
) -> None:
    asked = recorded("D-EDK2-PXE", mac=KNOWN)
    offer = replace(OFFER, options={**OFFER.options, Option.VENDOR_SPECIFIC_INFORMATION: option_43})
    read = dhcp.read(frame(offer), offer.xid, MAC, 0.5)
    assert read is not None
    verdict = judge(Kind.PXE, [read], 5, replace(asked, xid=offer.xid))
    assert (verdict.address_from, verdict.boot_from) == (read, read)
    assert verdict.steps[-1].ok is (says is None)
    if says is None:
        assert verdict.problems == ()
    else:
        (problem,) = verdict.problems
        assert problem.startswith(says)


def test_what_the_models_read_is_what_is_sent() -> None:
    """The DHCPDISCOVER that the verdict is about is a packet of the conversation itself."""
    client = Client(Kind.PXE, architecture("x64", Kind.PXE), MAC)
    with socket.socketpair()[0] as one:
        asked = dhcp.Conversation(client, XID, one, one).discover
    assert model_for(asked) is Model.EDK2_PXE
    assert (asked.xid, asked.chaddr) == (XID, MAC)


@pytest.mark.parametrize(
    ("kind", "marked"), [(Kind.PXE, True), (Kind.HTTP, True), (Kind.IPXE, True), (Kind.PXE, False), (Kind.PLAIN, True)]
)
def test_what_gives_an_address_back_is_marked_as_what_asked_for_it(kind: Kind, marked: bool) -> None:
    client = Client(kind, architecture("x64", kind), MAC, marked=marked)
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        conversation = dhcp.Conversation(client, XID, one, one)
        conversation.release(READ, IPv4Address("10.77.0.9"))
        said = wire.decode(other.recv(4096)[42:]).options
    asked = conversation.discover.options
    assert said[Option.DHCP_MESSAGE_TYPE] == bytes((MessageType.DHCPRELEASE,))
    identifier = Option.CLIENT_MACHINE_IDENTIFIER
    assert said.get(identifier) == asked.get(identifier)
    assert said.get(identifier, b"").startswith(PROBE) is (marked and kind is not Kind.PLAIN)
