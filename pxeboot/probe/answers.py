"""The answers to a DHCPDISCOVER, which of them a machine would take, and what is wrong with them as a whole.

A machine's choice is told as firmware in general makes it: EDK2 takes an answer that is both address and PXE boot
file before an address and a proxy's file, iPXE takes the first address. Older ROMs take whatever comes first, which
is why two answers are a fault even where a machine could choose.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from dhcp.models import Step, next_steps
from dhcp.options import Option
from dhcp.wire import MalformedPacket, Message, decode, options_in
from pxeboot.probe.client import Kind

_PXE_TAGS = {1: "MTFTP address", 2: "MTFTP client port", 3: "MTFTP server port", 4: "MTFTP time-out",
             5: "MTFTP delay", 7: "multicast discovery address", 12: "credentials", 71: "boot item"}  # fmt: skip
_DISCOVERY_CONTROL = 6
_BOOT_SERVERS = 8
_MENU = 9
_PROMPT = 10
_OPTIONS_AT = 240
"""Behind the header and the cookie."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. Text in it is the server's, and not to be trusted: show it with `%r`."""

    message_type: str
    """OFFER, ACK, NAK, or BOOTP."""
    server_id: IPv4Address
    """Option 54; the sender's address if it has none."""
    mac: str
    """The link address that sent it: the server's, or that of a relay or router in between."""
    source: IPv4Address
    delay_s: float
    """Since we asked last."""
    size_bytes: int
    address: IPv4Address | None = None
    lease_s: int | None = None
    subnet_mask: IPv4Address | None = None
    routers: tuple[IPv4Address, ...] = ()
    boot_file: str = ""
    """Option 67, or `file`."""
    next_server: IPv4Address | None = None
    """siaddr."""
    tftp_server: str = ""
    """Option 66."""
    vendor_class: str = ""
    """Option 60."""
    vendor_options: bytes = b""
    """Option 43."""
    relay: IPv4Address | None = None
    """giaddr."""
    message: str = ""
    """Option 56: why a NAK."""
    damaged: bool = False
    """Whether its options could not be read to their end."""
    packet: bytes = field(default=b"", compare=False, repr=False)
    """All of it, as it came."""

    @property
    def server(self) -> tuple[IPv4Address, str]:
        """Who it is."""
        return self.server_id, self.mac

    @property
    def name(self) -> str:
        """Who it is, for people."""
        return f"{self.server_id} ({self.mac})"

    @property
    def proxy(self) -> bool:
        """Whether it is a proxyDHCP answer: what to boot, and no address."""
        return self.address is None and self.vendor_class.startswith(("PXEClient", "HTTPClient"))

    @property
    def asks_4011(self) -> bool:
        """Whether UEFI firmware would ask UDP port 4011 for the boot file (no discovery control, no file)."""
        return self.vendor_class.startswith("PXEClient") and not self.boot_file and not self.vendor_options

    def boots(self, kind: Kind) -> bool:
        """Whether it leads a machine of `kind` to something to boot."""
        match kind:
            case Kind.PLAIN:
                return False
            case Kind.HTTP:
                return self.vendor_class.startswith("HTTPClient") and self.boot_file.startswith(
                    ("http://", "https://")
                )
            case Kind.PXE | Kind.IPXE:
                menu = self.vendor_class.startswith("PXEClient") and _BOOT_SERVERS in dict(
                    options_in(self.vendor_options)
                )
                return bool(self.boot_file) or menu or self.asks_4011


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a machine that gets these answers."""

    address_from: Answer | None
    boot_from: Answer | None
    problems: tuple[str, ...]
    """What is wrong, in words; nothing is, if there are none."""
    steps: tuple[Step, ...] = ()
    """What the program that so asks does with them, where it is known what was asked."""


def judge(kind: Kind, answers: Sequence[Answer], waited_s: float, asked: Message | None = None) -> Verdict:
    """Return which answers a machine of `kind` takes, and what is wrong with all of them.

    With `asked`, what was asked, the client models read the answers too: an offer with a boot file boots nothing if
    its option 43 sends the firmware somewhere else.
    """
    address_from, boot_from = _choice(kind, answers)
    problems = []
    addresses = _servers([answer for answer in answers if answer.address is not None])
    boots = _servers([answer for answer in answers if answer.boots(kind)])
    if not answers:
        problems.append(f"nobody answered within {waited_s:g} s")
    elif address_from is None:
        problems.append("nobody offers an address")
    if answers and kind is not Kind.PLAIN and boot_from is None:
        problems.append(f"nobody says what to boot {_HOW[kind]}")
    if len(addresses) > 1:
        same = "the same address" if len({answer.address for answer in addresses}) == 1 else "different addresses"
        problems.append(f"{len(addresses)} servers offer {same}: {_listed(addresses, 'address')}")
    if len(boots) > 1:
        agree = len({(answer.boot_file, answer.next_server) for answer in boots}) == 1
        verb = "agree" if agree else "disagree"
        problems.append(f"{len(boots)} servers say what to boot, and {verb}: {_listed(boots, 'boot_file')}")
    problems += [f"the options of {answer.name} cannot be read to their end" for answer in answers if answer.damaged]
    steps = _steps(asked, answers) if asked is not None else ()
    complete = address_from is not None and (kind is Kind.PLAIN or boot_from is not None)
    if complete and steps and not steps[-1].ok:
        problems.append(f"the machine {steps[-1].what}: {steps[-1].because}")
    return Verdict(address_from, boot_from, tuple(problems), steps)


def _steps(asked: Message, answers: Sequence[Answer]) -> tuple[Step, ...]:
    """What becomes of a machine by the models; an answer that we cannot decode, it cannot either."""
    heard, overloaded = [], False
    for answer in answers:
        try:
            heard.append(decode(answer.packet))
        except MalformedPacket:
            continue
        overloaded |= Option.OPTION_OVERLOAD in dict(options_in(answer.packet[_OPTIONS_AT:]))
    return next_steps(asked, *heard, overloaded=overloaded) if heard else ()


_HOW = {Kind.PXE: "by PXE", Kind.HTTP: "by HTTP (option 60 HTTPClient with a URL)", Kind.IPXE: "by iPXE"}


def _choice(kind: Kind, answers: Sequence[Answer]) -> tuple[Answer | None, Answer | None]:
    addressed = [answer for answer in answers if answer.address is not None]
    proxies = [answer for answer in answers if answer.address is None and answer.boots(kind)]
    whole = [answer for answer in addressed if answer.boots(kind)]
    first = next(iter(addressed), None)
    if first is None or kind is Kind.PLAIN:
        return first, None
    proxy = next(iter(proxies), None)
    if kind is Kind.IPXE:
        return first, first if first.boots(kind) else proxy
    marked = [answer for answer in whole if answer.vendor_class.startswith(("PXEClient", "HTTPClient"))]
    if marked:
        return marked[0], marked[0]
    if proxy is not None:
        return first, proxy
    return (whole[0], whole[0]) if whole else (first, None)


def answer_json(answer: Answer) -> dict[str, object]:
    """Return an answer as JSON values. Text is as it came from the network."""
    return {
        "message_type": answer.message_type,
        "server_id": str(answer.server_id),
        "mac": answer.mac,
        "source": str(answer.source),
        "delay_ms": round(answer.delay_s * 1000, 1),
        "size_bytes": answer.size_bytes,
        "address": str(answer.address) if answer.address else None,
        "lease_s": answer.lease_s,
        "subnet_mask": str(answer.subnet_mask) if answer.subnet_mask else None,
        "routers": [str(router) for router in answer.routers],
        "boot_file": answer.boot_file or None,
        "next_server": str(answer.next_server) if answer.next_server else None,
        "tftp_server": answer.tftp_server or None,
        "vendor_class": answer.vendor_class or None,
        "vendor_options": answer.vendor_options.hex(),
        "vendor_words": vendor_words(answer.vendor_options),
        "proxy": answer.proxy,
        "port_4011": answer.asks_4011,
        "relay": str(answer.relay) if answer.relay else None,
        "message": answer.message or None,
        "damaged": answer.damaged,
    }


def _servers(answers: Sequence[Answer]) -> list[Answer]:
    """The first answer of each server."""
    first: dict[tuple[IPv4Address, str], Answer] = {}
    for answer in answers:
        first.setdefault(answer.server, answer)
    return [*first.values()]


def _listed(answers: Sequence[Answer], field: str) -> str:
    said = []
    for answer in answers:
        what = str(answer.address) if field == "address" else boot_words(answer)
        said.append(f"{what} by {answer.name}")
    return "; ".join(said)


def boot_words(answer: Answer) -> str:
    """Return what an answer says to boot and from where, for people."""
    if answer.boot_file:
        where = f" from {answer.next_server}" if answer.next_server and "://" not in answer.boot_file else ""
        return f"{answer.boot_file!r}{where}"
    return "what UDP port 4011 says" if answer.asks_4011 else "what a boot server of its menu says"


def vendor_words(value: bytes) -> list[str]:
    """Return option 43 as PXE reads it (PXE 2.1 table 2-1), a line for each tag; hex where it is not PXE's.

    >>> vendor_words(bytes.fromhex("0601080a0400505845ff"))
    ['discovery control 8: use the file of this answer', "prompt after 0 s: 'PXE'"]
    """
    inside = dict(options_in(value))
    if not inside:
        return [value.hex(" ")] if value else []
    words = []
    for tag, content in inside.items():
        if tag == _DISCOVERY_CONTROL and len(content) == 1:
            words.append(
                f"discovery control {content[0]}" + (": use the file of this answer" if content[0] & 8 else "")
            )
        elif tag == _BOOT_SERVERS:
            words.append(f"boot servers {content.hex(' ')}")
        elif tag == _MENU and len(content) > 3:
            words.append(f"menu {content[3:].decode('latin-1')!r}")
        elif tag == _PROMPT and content:
            text = content[1:].decode("latin-1")
            words.append(f"prompt after {content[0]} s: {text!r}" if content[0] != 255 else f"prompt: {text!r}")
        else:
            words.append(f"{_PXE_TAGS.get(tag, f'tag {tag}')} {content.hex(' ')}")
    return words
