"""Asks as a PXE client and collects every answer. scapy makes and reads the packets: a judge that is not us.

It works on an interface without an address, since frames are made whole and read from the link, and with any MAC,
since the interface listens to all of them meanwhile.
"""

import selectors
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address

from scapy.layers.dhcp import BOOTP, DHCP, DHCPOptionsField
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from config.interfaces import links
from dhcp import options, wire
from dhcp.options import MessageType, Option
from dhcp.overheard import Datagram
from dhcp.sniff import Frame, open_socket, receive
from pxeboot.probe import arp, words
from pxeboot.probe.answers import Answer, Verdict, judge
from pxeboot.probe.client import Client, Kind
from pxeboot.probe.here import here
from pxeboot.probe.words import Here

ASK_AGAIN_S = 4.0
"""A firmware that was not answered asks again after this time."""
_TYPES = {2: "OFFER", 5: "ACK", 6: "NAK"}
_EVERYBODY = "255.255.255.255"
_OVERLOAD_FIELDS = ((1, "file"), (2, "sname"))
_options_field = DHCPOptionsField("options", b"")


@dataclass(frozen=True, slots=True)
class Result:
    """What came of asking."""

    answers: tuple[Answer, ...]
    """To the DHCPDISCOVER, in the order in which they came."""
    verdict: Verdict
    taken: Answer | None = None
    """What the DHCPREQUEST was answered with; None if there was none, or none was sent."""
    problems: tuple[str, ...] = ()
    """All that is wrong, in words; nothing is, if there are none."""
    remedy: str = ""
    """What to look at where nobody answers."""
    here: Here | None = None
    """Why nothing can be said: the server runs here."""


def probe(client: Client, interface: str, wait_s: float, *, request: bool = False) -> Result:
    """Ask on `interface` and return every answer that comes within `wait_s` seconds.

    With `request` the address that a machine would take is requested, and released at the end. Nothing is released
    that was not taken. Raises `OSError` if the interface is not there, is down, or if we may not (CAP_NET_RAW).
    """
    with asking(client, interface) as conversation:
        answers = tuple(conversation.ask(MessageType.DHCPDISCOVER, {}, wait_s))
        verdict = judge(client.kind, answers, wait_s, conversation.discover)
        if (served := here(interface, answers)) is not None:
            return Result(answers, verdict, here=served)
        if not answers:
            link = links([interface]).get(interface)
            if link is not None and not link.carrier:
                what, remedy = words.no_carrier(interface)
                return Result(answers, verdict, None, (what,), remedy)
            return Result(answers, verdict, None, verdict.problems, words.no_offer(interface)[1])
        problems, taken = verdict.problems, None
        offer = verdict.address_from
        address = offer.address if request and offer is not None else None
        by = arp.others(interface, address) if address is not None else []
        if by:
            what, remedy = words.in_use(str(address), by, client.mac.hex(":"))
            problems += (f"{what}; {remedy}",)
        elif offer is not None and address is not None:
            wants: dict[int, bytes] = {
                Option.SERVER_IDENTIFIER: offer.server_id.packed,
                Option.REQUESTED_IP_ADDRESS: address.packed,
            }
            replies = conversation.ask(MessageType.DHCPREQUEST, wants, wait_s)
            taken = next((reply for reply in replies if reply.message_type in ("ACK", "NAK")), None)
            if taken is None:
                problems += (f"{offer.name} did not answer the DHCPREQUEST for {offer.address} within {wait_s:g} s",)
            elif taken.message_type == "NAK":
                problems += (f"{taken.name} refused {offer.address} that {offer.name} had offered: {taken.message!r}",)
            else:
                if taken.address is not None:
                    conversation.release(taken, taken.address)
                if taken.address != offer.address:
                    problems += (f"{taken.name} offered {offer.address} and gave {taken.address or 'none'}",)
    return Result(answers, verdict, taken, problems)


@contextmanager
def asking(client: Client, interface: str) -> "Iterator[Conversation]":
    """Have a conversation of `client` on `interface`. Raises `OSError` as `probe` does."""
    xid = int.from_bytes(client.mac[-4:], "big") ^ (time.time_ns() & 0xFFFFFFFF)
    with open_socket(interface, promiscuous=True) as hears, sender(interface) as sends:
        yield Conversation(client, xid, hears, sends)


class Conversation:
    """Packets of one client with one xid."""

    def __init__(self, client: Client, xid: int, hears: socket.socket, sends: socket.socket) -> None:
        self._client = client
        self._xid = xid
        self._hears = hears
        self._sends = sends

    @property
    def discover(self) -> wire.Message:
        """What the first `ask` sends."""
        return wire.decode(bytes(self._packet(MessageType.DHCPDISCOVER, self._client.options())[BOOTP]))

    def ask(self, kind: MessageType, wants: Mapping[int, bytes], wait_s: float) -> Iterator[Answer]:
        """Send a DISCOVER or REQUEST to everybody and yield the answers; again, if there is none for 4 seconds."""
        packet = self._packet(kind, self._client.options(wants=wants))
        began = time.monotonic()
        until, asked, again, heard = began + wait_s, 0.0, began, set[bytes]()
        with selectors.DefaultSelector() as selector:
            selector.register(self._hears, selectors.EVENT_READ)
            while (now := time.monotonic()) < until:
                if now >= again and not heard:
                    packet[BOOTP].secs = int(now - began)
                    asked, again = now, now + ASK_AGAIN_S
                    self._sends.send(bytes(packet))
                wake = until if heard else min(until, again)
                if not selector.select(max(0.0, wake - time.monotonic())):
                    continue
                frame = self._receive()
                now = time.monotonic()
                if frame is None or frame.datagram.data in heard:
                    continue
                answer = read(frame, self._xid, self._client.mac, now - asked)
                if answer is not None:
                    heard.add(frame.datagram.data)
                    yield answer

    def at_port_4011(self, lease: Answer, server: IPv4Address, wait_s: float) -> Answer | None:
        """Ask the boot server for the file, from the address of `lease`, which has to be ours; None if it is silent.

        Firmware asks from its port 68; where another program has that, 4011 is as good. Raises `OSError`.
        """
        assert lease.address is not None
        packet = self._packet(MessageType.DHCPREQUEST, self._client.options(), ciaddr=str(lease.address))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for port in (68, 4011):
                try:
                    sock.bind((str(lease.address), port))
                    break
                except OSError:
                    if port == 4011:
                        raise
            sock.settimeout(max(0.1, wait_s / 3))
            for _ in range(3):
                began = time.monotonic()
                sock.sendto(bytes(packet[BOOTP]), (str(server), 4011))
                try:
                    data, (host, number) = sock.recvfrom(4096)
                except TimeoutError:
                    continue
                datagram = Datagram(IPv4Address(host), number, lease.address, port, data)
                answer = read(Frame(datagram, lease.mac, 0), self._xid, self._client.mac, time.monotonic() - began)
                if answer is not None:
                    return answer
        return None

    def release(self, lease: Answer, address: IPv4Address) -> None:
        """Give an address back."""
        assert lease.address is not None
        said: list[tuple[int, bytes]] = [(Option.SERVER_IDENTIFIER, lease.server_id.packed)]
        if self._client.kind is not Kind.PLAIN:
            said.append(self._client.machine_identifier)
        packet = self._packet(MessageType.DHCPRELEASE, said, ciaddr=str(address))
        packet[Ether].dst = lease.mac
        packet[IP].src, packet[IP].dst = str(address), str(lease.server_id)
        self._sends.send(bytes(packet))

    def _receive(self) -> Frame | None:
        try:
            return receive(self._hears)
        except BlockingIOError:
            return None

    def _packet(self, kind: MessageType, said: list[tuple[int, bytes]], ciaddr: str = "0.0.0.0") -> Ether:
        """Return a frame to everybody."""
        client = self._client
        flags = 0x8000 if client.broadcast and kind is not MessageType.DHCPRELEASE else 0
        fields = {"xid": self._xid, "chaddr": client.mac, "flags": flags, "ciaddr": ciaddr}
        listed = [("message-type", int(kind)), *((int(code), value) for code, value in said), "end"]
        return (
            Ether(src=client.mac.hex(":"), dst="ff:ff:ff:ff:ff:ff")
            / IP(src="0.0.0.0", dst=_EVERYBODY)
            / UDP(sport=68, dport=67)
            / BOOTP(**fields)
            / DHCP(options=listed)
        )


def read(frame: Frame, xid: int, mac: bytes, delay_s: float) -> Answer | None:
    """Return the answer in a frame; None if it is none to us, or so damaged that nothing can be said of it."""
    data = frame.datagram.data
    try:
        packet = BOOTP(data)
        if packet.op != 2 or packet.xid != xid or packet.chaddr[:6] != mac:
            return None
        said, damaged = _options(packet)
        addresses = [IPv4Address(str(field)) for field in (packet.yiaddr, packet.siaddr, packet.giaddr)]
        file, sname = bytes(packet.file), bytes(packet.sname)
    except Exception:  # whatever scapy raises on bytes that are no BOOTP
        return None
    overload = options.number(said.get(Option.OPTION_OVERLOAD), 1) or 0
    file = b"" if overload & 1 else file.partition(b"\0")[0]
    kind = options.number(said.get(Option.DHCP_MESSAGE_TYPE), 1)
    yiaddr, siaddr, giaddr = (address if int(address) else None for address in addresses)
    routers = said.get(Option.ROUTER, b"")
    return Answer(
        message_type="BOOTP" if kind is None else _TYPES.get(kind, f"type {kind}"),
        server_id=options.address(said.get(Option.SERVER_IDENTIFIER)) or frame.datagram.source,
        mac=frame.mac,
        source=frame.datagram.source,
        delay_s=delay_s,
        size_bytes=len(data),
        address=yiaddr,
        lease_s=options.number(said.get(Option.IP_ADDRESS_LEASE_TIME), 4),
        subnet_mask=options.address(said.get(Option.SUBNET_MASK)),
        routers=tuple(IPv4Address(routers[at : at + 4]) for at in range(0, len(routers) - 3, 4)),
        boot_file=_text(said.get(Option.BOOTFILE_NAME, b"")) or _text(file),
        next_server=siaddr,
        tftp_server=_text(said.get(Option.TFTP_SERVER_NAME, b"")) or ("" if overload & 2 else _text(sname)),
        vendor_class=_text(said.get(Option.VENDOR_CLASS_IDENTIFIER, b"")),
        vendor_options=said.get(Option.VENDOR_SPECIFIC_INFORMATION, b""),
        relay=giaddr,
        message=_text(said.get(Option.MESSAGE, b"")),
        damaged=damaged,
        packet=data,
    )


def _options(packet: BOOTP) -> tuple[dict[int, bytes], bool]:
    """Return the options by number, whole, and whether scapy could not read them to their end (RFC 3396, 2131 4.1)."""
    if DHCP not in packet:
        return {}, False
    said: dict[int, bytes] = {}
    damaged = _collect(packet[DHCP].options, said)
    overload = options.number(said.get(Option.OPTION_OVERLOAD), 1) or 0
    for bit, field in _OVERLOAD_FIELDS:
        if overload & bit:
            damaged |= _collect(_options_field.m2i(packet, bytes(getattr(packet, field))), said)
    return said, damaged


def _collect(listed: list[object], into: dict[int, bytes]) -> bool:
    """Add what scapy read to `into`, as bytes again; return whether something was no option."""
    for option in listed:
        if option == "end":
            return False
        if option == "pad":
            continue
        if not isinstance(option, tuple):
            return True
        encoded = _options_field.i2m(None, [option])
        if len(encoded) < 2:
            return True
        into[encoded[0]] = into.get(encoded[0], b"") + encoded[2:]
    return False


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "backslashreplace")


def sender(interface: str) -> socket.socket:
    """Return a socket that sends whole frames."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        sock.bind((interface, 0))
    except BaseException:
        sock.close()
        raise
    return sock
