"""dhcp.models: what clients would do with an answer. Scenarios 1 to 11 and 14 of the reference, as tables."""

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.quirks import Option43
from dhcp import boot, pxe, wire
from dhcp.models import Model, Step, model_for, next_steps
from dhcp.options import MessageType
from dhcp.pxe import BootItem, Discovery, MenuLine, VendorOptions
from dhcp.wire import Message, Op, options_in
from tests.support.dhcp_clients import RECORDED, recorded

US = IPv4Address("198.51.100.1")
OTHER = IPv4Address("198.51.100.2")
ITS = IPv4Address("198.51.100.20")
PI = "dc:a6:32:00:00:01"
X64 = b"debian/x64/core.efi"
BIOS = b"debian/bios/core.0"
SCRIPT = b"http://198.51.100.1/boot.ipxe"
URL = b"http://198.51.100.1:8080/debian/x64/core.efi"
MTFTP_ONLY = VendorOptions(others={1: bytes(4), 2: b"\0\1", 3: b"\0\2", 4: b"\1", 5: b"\2"}).encode()
IPXE_EFI = recorded("D-IPXE-BIOS", options=dict(options_in(RECORDED["D-IPXE-EFI"] + b"\xff")))
EDK2 = recorded("D-EDK2-PXE", flags=0x8000)
HTTP = recorded("D-EDK2-HTTP")
ROM = recorded("D-EDK2-PXE", options={60: b"PXEClient:Arch:00000:UNDI:002001", 93: b"\0\0"})


def answer(request: Message, kind: MessageType | None = MessageType.DHCPOFFER, /, **fields: Any) -> Message:
    """Return a server's message; `options` are added to what every answer has, and None takes one away."""
    own: dict[int, bytes | None] = {54: US.packed, 51: (3600).to_bytes(4, "big")}
    if kind is not None:
        own |= {53: bytes((kind,))}
    said = own | fields.pop("options", {})
    header: dict[str, Any] = {
        "op": Op.BOOTREPLY,
        "xid": request.xid,
        "chaddr": request.chaddr,
        "yiaddr": ITS,
        "siaddr": US,
    }
    return Message(**header | fields, options={code: value for code, value in said.items() if value is not None})


def pxe_answer(request: Message, file: bytes = X64, vendor: bytes = pxe.USE_THIS_FILE, **fields: Any) -> Message:
    """Return the offer that we make to a PXE client."""
    said = {60: b"PXEClient", 66: str(US).encode() + b"\0", 67: file + b"\0", 43: vendor} | fields.pop("options", {})
    return answer(request, options={code: value for code, value in said.items() if value != b""}, file=file, **fields)


def http_answer(request: Message, url: bytes = URL, **fields: Any) -> Message:
    return answer(
        request, options={60: b"HTTPClient\0", 67: url + b"\0"} | fields.pop("options", {}), file=url, **fields
    )


def proxy(request: Message, file: bytes = X64, vendor: bytes = pxe.USE_THIS_FILE) -> Message:
    """Return the offer of a proxyDHCP."""
    said = {51: None, 54: OTHER.packed} | ({} if file else {67: None})
    return pxe_answer(request, file, vendor, yiaddr=IPv4Address(0), siaddr=OTHER, options=said)


def told(steps: tuple[Step, ...]) -> str:
    return "\n".join(f"{'goes on' if step.ok else 'trouble'}: {step.what} ({step.because})" for step in steps)


# request, what it hears, whether its boot goes on, and what is said of it, in this order
SCENARIOS: dict[str, tuple[Message, list[Message], bool, list[str]]] = {
    "2: EDK2 uses the file of the offer": (
        EDK2,
        [pxe_answer(EDK2)],
        True,
        ["takes 198.51.100.20", "asks 198.51.100.1 by TFTP", "core.efi", "(GRUB, efinet) asks 198.51.100.1 by TFTP"],
    ),
    "3: EDK2 goes to 4011 without option 43": (
        EDK2,
        [pxe_answer(EDK2, vendor=b"")],
        True,
        ["asks UDP 4011 at 198.51.100.1", "four times in 10 s", "none of the tags 6 to 10", "siaddr"],
    ),
    "3: and to option 54 if siaddr is 0": (
        EDK2,
        [pxe_answer(EDK2, vendor=b"", siaddr=IPv4Address(0), options={54: OTHER.packed})],
        True,
        ["asks UDP 4011 at 198.51.100.2", "option 54, as siaddr is 0"],
    ),
    "2: EDK2 takes an unmarked offer with a file": (
        EDK2,
        [answer(EDK2, file=X64)],
        True,
        ["takes 198.51.100.20", "it is no PXE offer, and names a boot file", "by TFTP", "the field file"],
    ),
    "3: nobody to ask at 4011": (
        EDK2,
        [pxe_answer(EDK2, vendor=b"", siaddr=IPv4Address(0), options={54: b"\1"})],
        False,
        ["takes 198.51.100.20 from a server without a name", "has nobody to ask", "option 54 is missing"],
    ),
    "2: nobody to fetch it from": (
        EDK2,
        [pxe_answer(EDK2, siaddr=IPv4Address(0), options={54: b"\1"})],
        False,
        ["it knows no TFTP server"],
    ),
    "EDK2 has no use for an address alone": (EDK2, [answer(EDK2)], False, ["gives up 4 s after", "PXE-E16"]),
    "4: EDK2 throws away multicast TFTP": (
        EDK2,
        [pxe_answer(EDK2, vendor=MTFTP_ONLY)],
        False,
        ["throws away the offer of 198.51.100.1", "none of 6 to 10", "gives up"],
    ),
    "4: a ROM has no use for it": (ROM, [pxe_answer(ROM, BIOS, MTFTP_ONLY)], False, ["only speaks of multicast TFTP"]),
    "5: EDK2 with a proxy after the server": (
        EDK2,
        [answer(EDK2), proxy(EDK2)],
        True,
        ["takes 198.51.100.20 from 198.51.100.1", "proxyDHCP", "asks 198.51.100.2 by TFTP"],
    ),
    "5: EDK2 with a proxy before the server": (
        EDK2,
        [proxy(EDK2), answer(EDK2)],
        True,
        ["takes 198.51.100.20 from 198.51.100.1", "proxyDHCP", "asks 198.51.100.2 by TFTP"],
    ),
    "5: EDK2 with a proxy that has no 43": (
        EDK2,
        [answer(EDK2), proxy(EDK2, vendor=b"")],
        True,
        ["takes 198.51.100.20 from 198.51.100.1", "asks UDP 4011 at 198.51.100.2"],
    ),
    "5: a proxy without its class is none": (
        EDK2,
        [answer(EDK2), answer(EDK2, yiaddr=IPv4Address(0), file=X64)],
        False,
        ["throws away the offer", "yiaddr is 0, and option 60 is not PXEClient", "gives up"],
    ),
    "5: EDK2 and a proxy alone": (EDK2, [proxy(EDK2)], False, ["gives up"]),
    "5: iPXE with a proxy after the server": (
        IPXE_EFI,
        [answer(IPXE_EFI), proxy(IPXE_EFI, SCRIPT)],
        True,
        ["takes 198.51.100.20", "need not wait", "fetches http://198.51.100.1/boot.ipxe and runs the script"],
    ),
    "5: iPXE without a proxy waits for one": (
        IPXE_EFI,
        [answer(IPXE_EFI, file=SCRIPT)],
        True,
        ["waits 2 s for a proxyDHCP", "takes", "runs the script"],
    ),
    "5: iPXE that is told not to wait": (
        IPXE_EFI,
        [answer(IPXE_EFI, file=SCRIPT, options={175: bytes.fromhex("b0 01 01")}), proxy(IPXE_EFI, b"other.efi")],
        True,
        ["option 175 tells it not to wait", "boot.ipxe"],
    ),
    "5: iPXE asks a proxy that named no file": (
        IPXE_EFI,
        [answer(IPXE_EFI), proxy(IPXE_EFI, b"", b"")],
        True,
        ["asks UDP 4011 at 198.51.100.2", "for 2 s, and then does without"],
    ),
    "5: iPXE and a proxy alone": (IPXE_EFI, [proxy(IPXE_EFI)], False, ["asks again", "no offer has an address"]),
    "6: iPXE runs the script": (IPXE_EFI, [pxe_answer(IPXE_EFI, SCRIPT)], True, ["runs the script", "option 67"]),
    "6: iPXE loads iPXE": (
        IPXE_EFI,
        [pxe_answer(IPXE_EFI, b"ipxe.efi")],
        False,
        ["loads 'ipxe.efi', which is iPXE again", "for ever"],
    ),
    "6: iPXE starts GRUB": (
        IPXE_EFI,
        [pxe_answer(IPXE_EFI, X64)],
        True,
        ["fetches 'debian/x64/core.efi' by TFTP from 198.51.100.1", "(GRUB, efinet)"],
    ),
    "6: iPXE cannot tell where a file is": (
        IPXE_EFI,
        [pxe_answer(IPXE_EFI, X64, siaddr=IPv4Address(0))],
        False,
        ["cannot tell where", "siaddr is 0"],
    ),
    "6: iPXE has nothing to boot": (IPXE_EFI, [answer(IPXE_EFI)], False, ["Nothing to boot"]),
    "7: EDK2 HTTP fetches the URL": (
        HTTP,
        [http_answer(HTTP)],
        True,
        ["takes 198.51.100.20", f"asks for {URL.decode()} by HTTP: HEAD, then GET", "(GRUB, efinet)", "by HTTP"],
    ),
    "7: a class that only begins with it": (
        HTTP,
        [http_answer(HTTP, options={60: b"HTTPClient:Arch:00016"})],
        False,
        ["HEAD, then GET", "(GRUB) stays at its prompt", "exactly HTTPClient and a NUL"],
    ),
    "7: a URL that is in 67 only": (
        HTTP,
        [answer(HTTP, options={60: b"HTTPClient\0", 67: URL})],
        False,
        ["HEAD, then GET", "(GRUB) stays at its prompt", "file is empty"],
    ),
    "7: EDK2 HTTP drops a reply without the class": (
        HTTP,
        [answer(HTTP, file=URL)],
        False,
        ["gives up", "HTTPClient"],
    ),
    "7: EDK2 HTTP drops a path": (HTTP, [http_answer(HTTP, X64)], False, ["throws away", "is no URL", "gives up"]),
    "7: EDK2 HTTP drops a reply without a URL": (
        HTTP,
        [answer(HTTP, options={60: b"HTTPClient"})],
        False,
        ["throws away", "there is no URL"],
    ),
    "7: // in the path": (HTTP, [http_answer(HTTP, b"http://198.51.100.1//a.efi")], False, ["// in the path"]),
    "7: a name without a DNS server": (
        HTTP,
        [http_answer(HTTP, b"http://boot.example:8080/a.efi")],
        False,
        ["cannot look up 'boot.example'", "no option 6"],
    ),
    "7: a name with a DNS server": (
        HTTP,
        [http_answer(HTTP, b"http://boot.example/a.efi", options={6: US.packed})],
        True,
        ["asks for http://boot.example/a.efi"],
    ),
    "7: EDK2 HTTP with a proxy": (
        HTTP,
        [answer(HTTP), http_answer(HTTP, yiaddr=IPv4Address(0), options={51: None, 54: OTHER.packed})],
        True,
        ["takes 198.51.100.20 from 198.51.100.1", "proxyDHCP", "HEAD, then GET"],
    ),
    "7: EDK2 HTTP with a proxy of another class": (
        HTTP,
        [answer(HTTP), proxy(HTTP)],
        False,
        ["throws away the offer of 198.51.100.2", "does not begin with HTTPClient", "gives up"],
    ),
    "8: U-Boot reads file": (
        recorded("D-UBOOT"),
        [answer(recorded("D-UBOOT"), file=b"Image")],
        True,
        ["takes", "fetches 'Image' by TFTP from 198.51.100.1", "siaddr"],
    ),
    "8: older U-Boots do not read 67": (
        recorded("D-UBOOT"),
        [answer(recorded("D-UBOOT"), options={67: b"Image\0"})],
        False,
        ["fetches 'Image'", "or a name made of its address", "do not read option 67"],
    ),
    "8: U-Boot has a name of its own": (
        recorded("D-UBOOT"),
        [answer(recorded("D-UBOOT"))],
        False,
        ["fetches 'C6336414.img'"],
    ),
    "8: U-Boot ignores option 66": (
        recorded("D-UBOOT"),
        [answer(recorded("D-UBOOT"), file=b"Image", siaddr=IPv4Address(0), options={66: b"198.51.100.1"})],
        False,
        ["it ignores option 66"],
    ),
    "8: U-Boot takes 548 bytes": (
        recorded("D-UBOOT"),
        [answer(recorded("D-UBOOT"), file=b"Image", options={128: bytes(255), 129: bytes(60)})],
        False,
        ["may cut the reply", "548"],
    ),
    "8: U-Boot's dhcp knows no URL": (
        recorded("D-UBOOT"),
        [answer(recorded("D-UBOOT"), file=b"http://198.51.100.1/Image")],
        False,
        ["wget takes URLs"],
    ),
    "8: U-Boot knows no proxy": (recorded("D-UBOOT"), [proxy(recorded("D-UBOOT"))], False, ["knows no proxyDHCP"]),
    "9: a Pi wants the words": (
        recorded("D-RPI", PI),
        [pxe_answer(recorded("D-RPI", PI))],
        False,
        ["ignores the offer of 198.51.100.1", '"Raspberry Pi Boot"', "gives up after 45 s"],
    ),
    "9: a Pi hears the words": (
        recorded("D-RPI", PI),
        [answer(recorded("D-RPI", PI), options={43: pxe.OPTION_43[Option43.RASPBERRY_PI], 66: b"198.51.100.2"})],
        True,
        ["older ROMs send no DHCPREQUEST", "start4.elf", "from 198.51.100.2", "option 66", "neither siaddr"],
    ),
    "9: a Pi without 66 takes 54": (
        recorded("D-RPI", PI),
        [answer(recorded("D-RPI", PI), options={43: pxe.OPTION_43[Option43.RASPBERRY_PI_SPACES]})],
        True,
        ["from 198.51.100.1", "option 54"],
    ),
    "9: a Pi cannot read a NUL": (
        recorded("D-RPI", PI),
        [answer(recorded("D-RPI", PI), options={43: pxe.OPTION_43[Option43.RASPBERRY_PI], 66: b"198.51.100.1\0"})],
        False,
        ["does not understand '198.51.100.1'", "ends with a NUL"],
    ),
    "10: a ROM of no architecture": (
        recorded("D-EDK2-PXE", options={60: b"PXEClient", 93: b"\xff\xff"}),
        [pxe_answer(recorded("D-EDK2-PXE"), BIOS)],
        True,
        ["takes", "fetches 'debian/bios/core.0' by TFTP", "(GRUB, pxe)"],
    ),
    "11: a ROM and a long name": (
        ROM,
        [answer(ROM, options={60: b"PXEClient", 43: pxe.USE_THIS_FILE, 67: b"d/" * 70 + b"core.0\0"})],
        True,
        ["finds no boot file if it reads the field file only", "fetches 'd/d/"],
    ),
    "6: a ROM wants a NUL after 67": (
        ROM,
        [answer(ROM, file=BIOS, options={60: b"PXEClient", 43: pxe.USE_THIS_FILE, 67: BIOS})],
        True,
        ["junk behind it", "fetches"],
    ),
    "a ROM without 43 uses the file": (ROM, [pxe_answer(ROM, BIOS, b"")], True, ["fetches 'debian/bios/core.0'"]),
    "a ROM without a file asks 4011": (
        ROM,
        [answer(ROM, options={60: b"PXEClient"})],
        True,
        ["asks UDP 4011 at 198.51.100.1", "PXE-E55"],
    ),
    "a ROM and a plain server": (ROM, [answer(ROM)], False, ["PXE-E53"]),
    "a ROM and a proxy": (ROM, [answer(ROM), proxy(ROM, BIOS)], True, ["takes 198.51.100.20", "from 198.51.100.2"]),
    "a ROM and a proxy alone": (ROM, [proxy(ROM, BIOS)], False, ["PXE-E51"]),
    "a ROM cannot read a URL": (ROM, [pxe_answer(ROM, SCRIPT)], False, ["a file that is called 'http://"]),
    "EDK2 PXE cannot read a URL": (
        EDK2,
        [pxe_answer(EDK2, SCRIPT)],
        False,
        ["a file that is called 'http://", "PXE-E23"],
    ),
    "local: EDK2 boots its disk": (
        EDK2,
        [pxe_answer(EDK2, b"", pxe.LOCAL_BOOT, options={67: b"", 66: b""})],
        True,
        ["ends this boot at once (PXE-E21)", "before the disk"],
    ),
    "local: a ROM boots its disk": (
        ROM,
        [pxe_answer(ROM, b"", pxe.LOCAL_BOOT, options={67: b"", 66: b""})],
        True,
        ["leaves the ROM at once (PXE-M0F)"],
    ),
    "local: iPXE boots its disk": (
        IPXE_EFI,
        [pxe_answer(IPXE_EFI, b"", pxe.LOCAL_BOOT, options={67: b"", 66: b""})],
        True,
        ["gives back to the firmware at once"],
    ),
    "EDK2 with control 8 and no file": (
        EDK2,
        [pxe_answer(EDK2, b"", options={67: b"", 66: b""})],
        False,
        ["ends its network boot (PXE-E21)", "neither a menu nor a boot file"],
    ),
    "EDK2 and a menu of servers": (
        EDK2,
        [pxe_answer(EDK2, X64, VendorOptions(Discovery(3), menu=(MenuLine(1, b"net"),)).encode())],
        True,
        ["asks UDP 4011 at 198.51.100.1 for that boot server", "type 1"],
    ),
    "iPXE and a menu of servers": (
        IPXE_EFI,
        [pxe_answer(IPXE_EFI, X64, VendorOptions(Discovery(3), menu=(MenuLine(1, b"net"),)).encode())],
        True,
        ["asks UDP 4011 at 198.51.100.1 for that boot server", "for 3 s"],
    ),
    "an initramfs takes an address": (
        recorded("D-IPCONFIG"),
        [answer(recorded("D-IPCONFIG"))],
        True,
        ["takes 198.51.100.20", "uses the address for 3600 s"],
    ),
    "for good": (
        recorded("D-IPCONFIG"),
        [answer(recorded("D-IPCONFIG"), options={51: b"\xff" * 4})],
        True,
        ["for good"],
    ),
    "an initramfs wants a lease": (
        recorded("D-IPCONFIG"),
        [answer(recorded("D-IPCONFIG"), options={51: None})],
        False,
        ["ignores the offer", "it has no lease time", "asks again"],
    ),
    "an initramfs knows no proxy": (
        recorded("D-IPCONFIG"),
        [proxy(recorded("D-IPCONFIG"))],
        False,
        ["it has no address"],
    ),
    "too long for EDK2": (
        EDK2,
        [pxe_answer(EDK2, options={code: bytes(255) for code in range(200, 206)})],
        False,
        ["throws away", "room is for 1472"],
    ),
    "too long for EDK2 HTTP": (
        HTTP,
        [http_answer(HTTP, options={code: bytes(255) for code in range(200, 206)})],
        False,
        ["throws away", "room is for 1472"],
    ),
    "14: a GUID as chaddr": (
        recorded("D-EDK2-PXE", chaddr=bytes(range(16))),
        [pxe_answer(recorded("D-EDK2-PXE", chaddr=bytes(range(16))))],
        True,
        ["takes", "by TFTP"],
    ),
    "14: an answer for another machine": (
        EDK2,
        [pxe_answer(recorded("D-EDK2-PXE", "52:54:00:00:00:99"))],
        False,
        ["drops a packet of 198.51.100.1", "chaddr", "asks again after 4, 8, 16 and 32 s"],
    ),
    "14: Pis of one xid know their own by chaddr": (
        recorded("D-RPI", PI, xid=0x26F30339),
        [
            answer(
                recorded("D-RPI", "dc:a6:32:00:00:02", xid=0x26F30339),
                options={43: pxe.OPTION_43[Option43.RASPBERRY_PI]},
            )
        ],
        False,
        ["drops a packet", "chaddr"],
    ),
    "another xid": (EDK2, [pxe_answer(recorded("D-EDK2-PXE", xid=7))], False, ["xid"]),
    "a request is no answer": (EDK2, [EDK2], False, ["it is no reply (op)"]),
    "an ACK is no answer to a DISCOVER": (EDK2, [answer(EDK2, MessageType.DHCPACK)], False, ["option 53"]),
    "an answer of nobody": (EDK2, [answer(EDK2, options={54: None})], False, ["a server without a name", "option 54"]),
    "BOOTP": (
        recorded("D-BOOTP"),
        [answer(recorded("D-BOOTP"), None, file=BIOS, options={54: None, 51: None})],
        True,
        ["has 198.51.100.20", "fetches 'debian/bios/core.0' by TFTP", "(GRUB, pxe)"],
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_client_does_what_it_is_known_to_do(name: str) -> None:
    request, heard, goes_on, said = SCENARIOS[name]
    steps = next_steps(request, *heard)
    story = told(steps)
    at = 0
    for words in said:
        assert words in story[at:], story
        at = story.index(words, at)
    assert steps[-1].ok is goes_on, story


REQUEST = {53: bytes((MessageType.DHCPREQUEST,))}
ACK = MessageType.DHCPACK
MENU = VendorOptions(Discovery(3), menu=(MenuLine(1, b"net"),)).encode()
CHOSEN = VendorOptions(item=BootItem(1)).encode()


@pytest.mark.parametrize(
    ("request_", "ack", "goes_on", "said"),
    [
        pytest.param(recorded("D-OVMF-PXE-REQ"), {"file": X64}, True, "has 198.51.100.20", id="edk2"),
        pytest.param(
            recorded("D-OVMF-PXE-REQ"),
            {"options": {60: b"PXEClient", 67: X64}},
            True,
            "asks UDP 4011",
            id="edk2-to-4011",
        ),
        pytest.param(
            recorded("D-OVMF-PXE-REQ"),
            {"options": {60: b"PXEClient", 43: MTFTP_ONLY}},
            False,
            "has no use for the DHCPACK",
            id="edk2-multicast",
        ),
        pytest.param(
            recorded("D-EDK2-4011", ciaddr=ITS),
            {"yiaddr": IPv4Address(0), "options": {60: b"PXEClient", 67: X64, 51: None}},
            True,
            "by TFTP for the size of",
            id="edk2-at-4011",
        ),
        pytest.param(
            recorded("D-EDK2-4011", ciaddr=ITS),
            {"yiaddr": IPv4Address(0), "options": {60: b"PXEClient", 51: None}},
            False,
            "the answer of UDP 4011 has neither",
            id="edk2-at-4011-without-a-file",
        ),
        pytest.param(
            recorded("D-EDK2-4011", ciaddr=ITS),
            {"yiaddr": IPv4Address(0), "options": {60: b"PXEClient", 43: MENU, 67: X64, 51: None}},
            True,
            "for that boot server",
            id="edk2-at-4011-is-told-a-menu",
        ),
        *(
            pytest.param(
                replace(ask, options=dict(ask.options) | REQUEST | {43: CHOSEN}, ciaddr=ITS),
                {"yiaddr": IPv4Address(0), "options": {60: b"PXEClient", 43: MENU, 67: X64, 51: None}},
                True,
                said,
                id=f"{name}-at-4011-chose-and-is-told-the-menu-again",
            )
            for name, ask, said in (
                ("edk2", recorded("D-EDK2-4011"), "by TFTP for the size of"),
                ("ipxe", IPXE_EFI, "fetches 'debian/x64/core.efi'"),
            )
        ),
        pytest.param(
            recorded("D-IPXE-BIOS", options=REQUEST | {43: bytes.fromhex("47 04 80 00 00 00 ff")}, ciaddr=ITS),
            {"yiaddr": IPv4Address(0), "file": SCRIPT},
            True,
            "runs the script",
            id="ipxe-at-4011",
        ),
        pytest.param(
            recorded("D-EDK2-HTTP", options=REQUEST),
            {"options": {60: b"HTTPClient\0", 67: URL}, "file": URL},
            True,
            "HEAD, then GET",
            id="http",
        ),
        pytest.param(recorded("D-EDK2-HTTP", options=REQUEST), {}, False, "there is no URL", id="http-without-a-url"),
        pytest.param(recorded("D-UBOOT", options=REQUEST), {"file": b"Image"}, True, "fetches 'Image'", id="u-boot"),
        pytest.param(recorded("D-RPI", PI, options=REQUEST), {}, True, "start4.elf", id="raspberry-pi"),
        pytest.param(recorded("D-IPCONFIG", options=REQUEST), {}, True, "has 198.51.100.20", id="plain"),
        pytest.param(
            recorded("D-IPCONFIG", options={53: bytes((MessageType.DHCPINFORM,))}, ciaddr=ITS),
            {"yiaddr": IPv4Address(0)},
            True,
            "keeps its address",
            id="inform",
        ),
    ],
)
def test_an_ack_is_read_like_the_offer_before_it(
    request_: Message, ack: dict[str, Any], goes_on: bool, said: str
) -> None:
    steps = next_steps(request_, answer(request_, ACK, **ack))
    assert said in told(steps)
    assert steps[-1].ok is goes_on


def test_a_nak_sends_back_to_the_start() -> None:
    request = recorded("D-OVMF-PXE-REQ")
    (step,) = next_steps(request, answer(request, MessageType.DHCPNAK, options={56: b"not\nyours"}))
    assert not step.ok
    assert "starts again with DHCPDISCOVER" in step.what
    assert step.because == "DHCPNAK: not\\nyours"


@pytest.mark.parametrize(
    ("request_", "file"),
    [(recorded("D-UBOOT"), b"Image"), (HTTP, URL)],
)
def test_some_clients_lose_the_file_to_option_52(request_: Message, file: bytes) -> None:
    heard = http_answer(request_, file) if request_ is HTTP else answer(request_, file=file)
    assert next_steps(request_, heard)[-1].ok
    last = next_steps(request_, heard, overloaded=True)[-1]
    assert not last.ok
    assert "option 52" in last.because


def test_grub_asks_66_or_sname_when_siaddr_is_zero() -> None:
    nowhere = IPv4Address(0)
    by_66 = next_steps(EDK2, pxe_answer(EDK2, siaddr=nowhere))[-1]
    assert "(GRUB, efinet) asks 198.51.100.1 by TFTP" in by_66.what
    by_sname = next_steps(EDK2, answer(EDK2, file=X64, siaddr=nowhere, sname=b"198.51.100.7"))[-1]
    assert "asks 198.51.100.7" in by_sname.what
    assert "stays at its prompt" in next_steps(EDK2, answer(EDK2, file=X64, siaddr=nowhere))[-1].what


@pytest.mark.parametrize(
    ("request_", "model", "patience"),
    [
        (EDK2, Model.EDK2_PXE, "32 s"),
        (recorded("D-OVMF-PXE"), Model.EDK2_PXE, "PXE-E16"),
        (recorded("D-HUAWEI"), Model.EDK2_PXE, "32 s"),
        (recorded("D-NO-CLASS"), Model.EDK2_PXE, "32 s"),
        (recorded("D-EDK2-ARM64"), Model.EDK2_PXE, "32 s"),
        (HTTP, Model.EDK2_HTTP, "32 s"),
        (recorded("D-IPXE-BIOS"), Model.IPXE, "8 s"),
        (recorded("D-FLEXBOOT"), Model.IPXE, "8 s"),
        (ROM, Model.LEGACY_PXE, "PXE-E51"),
        (recorded("D-UBOOT"), Model.U_BOOT, "28 s"),
        (recorded("D-UBOOT-ARM32"), Model.U_BOOT, "28 s"),
        (recorded("D-RPI", PI), Model.RASPBERRY_PI, "45 s"),
        (recorded("D-RPI-ID"), Model.RASPBERRY_PI, "45 s"),
        (recorded("D-RPI"), Model.LEGACY_PXE, "PXE-E51"),
        (recorded("D-BOOTP"), Model.BOOTP, "asks again"),
        (recorded("D-IPCONFIG"), Model.PLAIN, "asks again"),
    ],
)
def test_each_client_is_like_one_program_that_waits_in_its_own_way(
    request_: Message, model: Model, patience: str
) -> None:
    assert model_for(request_) is model
    (step,) = next_steps(request_)
    assert patience in step.what
    assert (step.ok, step.because) == (False, "nobody answers")


REQUESTS = st.sampled_from(
    [name for name, field in RECORDED.items() if name.startswith("D-") and field[:4] == b"c\x82Sc"]
)
OPTIONS = st.dictionaries(st.sampled_from([43, 51, 53, 54, 60, 66, 67, 175]), st.binary(max_size=30))


@given(REQUESTS, OPTIONS, st.lists(OPTIONS, max_size=3), st.binary(max_size=20), st.integers(0, 2**32 - 1))
def test_there_is_always_a_story_and_it_can_be_printed(
    name: str, more: dict[int, bytes], answers: list[dict[int, bytes]], file: bytes, address: int
) -> None:
    request = recorded(name, options=more)
    heard = [
        wire.decode(answer(request, options=said, file=file, yiaddr=IPv4Address(address)).encode()) for said in answers
    ]
    steps = next_steps(request, *heard)
    assert steps
    assert all(step.what.isprintable() and step.because.isprintable() for step in steps), steps


@pytest.mark.parametrize("name", sorted(boot.BUILT_IN.values()))
def test_our_own_grub_needs_nothing_of_the_reply(name: str) -> None:
    steps = next_steps(ROM, pxe_answer(ROM, name.encode()))
    assert "(our GRUB) asks the server that it came from by HTTP for grub.cfg-01-MAC" in steps[-1].what
    assert steps[-1].ok
