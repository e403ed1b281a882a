"""Other DHCP and PXE servers on our links: who they are, what they give out, and whether that does harm. Pure.

They are known by what comes past: broadcast answers (`Others.heard`), and requests of machines that took another
server's offer (`Others.chosen`). A server of somebody else cannot be stopped from here, only named; two servers that
hand out boot files are the most frequent reason why a machine boots something else, or nothing (PXE-E99).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address

from dhcp import options
from dhcp.options import MessageType, Option
from dhcp.wire import NO_ADDRESS, Message, Op

MOST_SERVERS = 64
"""Kept at a time. More than these are somebody who makes them up; those that came first stay."""
MOST_MACHINES = 8
"""Of our machines that one server answered, kept by name."""
SILENT_S = 3600.0
"""A server that was silent for so long makes room for a new one."""
FORGOTTEN_S = 24 * 3600.0
SAID_AGAIN_S = 3600.0
MOST_SAID = 20
"""Warnings in `SAID_AGAIN_S`, whatever comes from the network."""
_LONGEST_TEXT = 255

_ANSWERS: Mapping[bytes | None, MessageType | None] = {None: None} | {
    bytes((kind,)): kind for kind in (MessageType.DHCPOFFER, MessageType.DHCPACK, MessageType.DHCPNAK)
}
"""Option 53 of what a server says; BOOTP has none."""
_BOOT_CLASSES = ((b"PXEClient", "PXE"), (b"HTTPClient", "HTTP"))


class Standing(StrEnum):
    """What another server means to us."""

    EXPECTED = "expected"
    """It gives addresses where we leave that to others (proxyDHCP)."""
    UNCLEAR = "unclear"
    """It was not seen to meet a machine of ours, and it gave nobody anything to boot."""
    CONFLICT = "conflict"
    """It answers our machines, or hands out boot files."""


@dataclass(frozen=True, slots=True)
class Ours:
    """What the tracker has to know about us; asked anew each time, so that a reload counts at once."""

    address: Callable[[IPv4Address], bool]
    """Whether an address is ours: on an interface that is served, or `server.address` of the configuration."""
    machine: Callable[[str], str | None]
    """The name of the configured machine with this MAC."""
    proxied: Callable[[IPv4Address], bool]
    """Whether an address lies in a network where somebody else is meant to give out addresses."""


@dataclass(frozen=True, slots=True)
class Heard:
    """Where an answer came from."""

    mac: str
    """The link address that sent it: the server's, or that of the relay or router in between."""
    source: IPv4Address
    port: int
    """67, or 4011 of a boot server."""
    interface: str
    """Ours, that it was heard on."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a server gave or said to one client. `mac` is the client's."""

    message_type: MessageType | None
    mac: str
    machine: str | None
    address: IPv4Address | None = None
    lease_s: int | None = None
    subnet_mask: IPv4Address | None = None
    router: IPv4Address | None = None
    boot_file: str = ""
    """Not to be trusted: show it with `%r`."""
    next_server: IPv4Address | None = None
    boots: str = ""
    """"PXE" or "HTTP", if the answer says that it is one to such a client (option 60)."""
    time: float = 0.0

    @property
    def who(self) -> str:
        """The client, for people."""
        return self.machine or self.mac


@dataclass(slots=True)
class Other:
    """One server, on one interface of ours. Times are those that it was told with."""

    server_id: IPv4Address
    mac: str
    """Empty as long as it is only known from the requests of machines that chose it."""
    interface: str
    first_seen: float
    last_seen: float
    count: int = 0
    """Messages from it, and requests that name it."""
    relay: IPv4Address | None = None
    """The relay that it answers through, whose MAC is then `mac`."""
    boot_server: bool = False
    """Whether it answers on UDP port 4011."""
    proxy: bool = False
    """Whether it offered something to boot without an address (proxyDHCP)."""
    address: Given | None = None
    """The newest answer with an address."""
    boot: Given | None = None
    """The newest answer with something to boot."""
    refused: Given | None = None
    """The newest DHCPNAK."""
    taken: Given | None = None
    """The newest request of a client that chose this server."""
    ours: int = 0
    """Answers to, and requests of, machines of ours where we give out the addresses."""
    strangers: int = 0
    """The same of clients that we do not know."""
    machines: tuple[str, ...] = ()
    """Machines of ours among these, the first `MOST_MACHINES` of them."""

    @property
    def standing(self) -> Standing:
        """What it means to us."""
        if self.boot is not None or self.ours:
            return Standing.CONFLICT
        return Standing.UNCLEAR if self.strangers else Standing.EXPECTED

    @property
    def name(self) -> str:
        """Who it is, for people."""
        mac = self.mac or "its MAC was not seen"
        via = f" through the relay {self.relay}" if self.relay else ""
        return f"{self.server_id} ({mac}) on {self.interface}{via}"

    def words(self) -> str:
        """Return what it does, as the end of a sentence that its name begins."""
        said = []
        if self.boot is not None:
            said.append(_boot_words(self.boot, proxy=self.proxy))
        if self.address is not None:
            lease = f" for {self.address.lease_s} s" if self.address.lease_s is not None else ""
            verb = "offered" if self.address.message_type is MessageType.DHCPOFFER else "gave"
            said.append(f"{verb} {self.address.who} the address {self.address.address}{lease}")
        if self.refused is not None:
            said.append(f"refused {self.refused.who} its address (DHCPNAK)")
        if self.taken is not None:
            said.append(f"was chosen by {self.taken.who}")
        if self.boot_server and self.boot is None:
            said.append("answers on UDP port 4011")
        return " and ".join(said) or "answers clients"


class Others:
    """All servers of others that were noticed lately. `now` is in seconds since 1970; a jump does little harm."""

    def __init__(self, ours: Ours) -> None:
        """Start with none."""
        self.ours = ours
        self.unlisted = 0
        """Messages of servers for which there was no room."""
        self._servers: dict[tuple[IPv4Address, str, str], Other] = {}
        self._said: dict[tuple[IPv4Address, str, str, Standing], float] = {}

    def __len__(self) -> int:
        return len(self._servers)

    def __iter__(self) -> Iterator[Other]:
        """The servers, those in conflict first, then those seen last."""
        order = [Standing.CONFLICT, Standing.UNCLEAR, Standing.EXPECTED]
        return iter(sorted(self._servers.values(), key=lambda other: (order.index(other.standing), -other.last_seen)))

    def heard(self, message: Message, heard: Heard, now: float) -> str | None:
        """Take in an answer that came past; return what to warn of, None if nothing or said within the hour."""
        server_id = options.address(message.options.get(Option.SERVER_IDENTIFIER)) or heard.source
        if message.op is not Op.BOOTREPLY or self.ours.address(server_id) or self.ours.address(heard.source):
            return None
        kind = message.options.get(Option.DHCP_MESSAGE_TYPE)
        if kind not in _ANSWERS:
            return None
        message_type = _ANSWERS[kind]
        other = self._server(server_id, heard.mac, heard.interface, now)
        if other is None:
            return None
        given = self._given(message, message_type, now)
        other.relay = message.giaddr if message.giaddr != NO_ADDRESS else None
        other.boot_server = other.boot_server or heard.port == 4011
        if given.address is not None:
            other.address = given
        if given.boots or given.boot_file:
            other.boot = given
            other.proxy = other.proxy or (given.address is None and message.ciaddr == NO_ADDRESS)
        if message_type is MessageType.DHCPNAK:
            other.refused = given
        self._met(other, given, given.address or server_id)
        return self._say(other, now)

    def chosen(self, message: Message, interface: str, now: float) -> str | None:
        """Take in a DHCPREQUEST that names another server (`Reason.OTHER_SERVER`); return as `heard`."""
        server_id = options.address(message.options.get(Option.SERVER_IDENTIFIER))
        if message.options.get(Option.DHCP_MESSAGE_TYPE) != bytes((MessageType.DHCPREQUEST,)):
            return None
        if server_id is None or server_id == NO_ADDRESS or self.ours.address(server_id):
            return None
        known = [other for other in self._servers.values() if _is(other, server_id, interface)]
        found = known or [new for new in (self._server(server_id, "", interface, now),) if new is not None]
        mac = message.chaddr.hex(":")
        address = options.address(message.options.get(Option.REQUESTED_IP_ADDRESS))
        said = None
        for other in found:
            if known:
                other.count, other.last_seen = other.count + 1, now
            other.taken = Given(MessageType.DHCPREQUEST, mac, self.ours.machine(mac), address, time=now)
            self._met(other, other.taken, address or server_id)
            said = self._say(other, now) or said
        return said

    def expire(self, now: float) -> None:
        """Forget servers that were silent for a day, and what was said long ago."""
        self._drop_silent(now, FORGOTTEN_S)
        self._said = {what: time for what, time in self._said.items() if _lately(time, now)}

    def _server(self, server_id: IPv4Address, mac: str, interface: str, now: float) -> Other | None:
        """Return the record of a server, made if need be; None if there is no room for it."""
        key = (server_id, mac, interface)
        other = self._servers.get(key)
        if other is None:
            other = self._servers.pop((server_id, "", interface), None)  # now its MAC is known
            if other is not None:
                other.mac = mac
        if other is None:
            self.expire(now)
            if len(self._servers) >= MOST_SERVERS:
                self._drop_silent(now, SILENT_S)
            if len(self._servers) >= MOST_SERVERS:
                self.unlisted += 1
                return None
            other = Other(server_id, mac, interface, now, now)
        self._servers[key] = other
        other.count += 1
        other.last_seen = now
        return other

    def _drop_silent(self, now: float, silent_s: float) -> None:
        self._servers = {key: other for key, other in self._servers.items() if now - other.last_seen < silent_s}

    def _given(self, message: Message, message_type: MessageType | None, now: float) -> Given:
        said = message.options
        mac = message.chaddr.hex(":")
        file = said.get(Option.BOOTFILE_NAME, b"").rstrip(b"\0") or message.file
        vendor_class = said.get(Option.VENDOR_CLASS_IDENTIFIER, b"")
        given = message.yiaddr != NO_ADDRESS and message_type is not MessageType.DHCPNAK
        return Given(
            message_type=message_type,
            mac=mac,
            machine=self.ours.machine(mac),
            address=message.yiaddr if given else None,
            lease_s=options.number(said.get(Option.IP_ADDRESS_LEASE_TIME), 4),
            subnet_mask=options.address(said.get(Option.SUBNET_MASK)),
            router=options.address(said.get(Option.ROUTER, b"")[:4]),
            boot_file=file[:_LONGEST_TEXT].decode("utf-8", "backslashreplace"),
            next_server=message.siaddr if message.siaddr != NO_ADDRESS else None,
            boots=next((name for start, name in _BOOT_CLASSES if vendor_class.startswith(start)), ""),
            time=now,
        )

    def _met(self, other: Other, given: Given, where: IPv4Address) -> None:
        """Count whom it met. Where others are meant to give out addresses, that is no news."""
        if self.ours.proxied(where):
            return
        if given.machine is None:
            other.strangers += 1
            return
        other.ours += 1
        if given.machine not in other.machines and len(other.machines) < MOST_MACHINES:
            other.machines += (given.machine,)

    def _say(self, other: Other, now: float) -> str | None:
        """Return the warning about a server, unless it was given within the hour, or too many were."""
        standing = other.standing
        if standing is Standing.EXPECTED:
            return None
        key = (other.server_id, other.mac, other.interface, standing)
        if key in self._said and _lately(self._said[key], now):
            return None
        if len(self._said) >= MOST_SAID:
            self._said = {what: time for what, time in self._said.items() if _lately(time, now)}
            if len(self._said) >= MOST_SAID:
                return None
        self._said[key] = now
        return f"another DHCP server, {other.name}, {other.words()}"


def _lately(time: float, now: float) -> bool:
    """Whether something was said within the hour. What was said in the future was said by a clock since set back."""
    return 0 <= now - time < SAID_AGAIN_S


def _is(other: Other, server_id: IPv4Address, interface: str) -> bool:
    return other.server_id == server_id and other.interface == interface


def _boot_words(boot: Given, *, proxy: bool) -> str:
    kind = f" as a {boot.boots} boot server" if boot.boots else ""
    proxied = " (proxyDHCP)" if proxy else ""
    if not boot.boot_file:
        return f"answers {boot.who}{kind}{proxied}"
    where = f" from {boot.next_server}" if boot.next_server else ""
    return f"hands out the boot file {boot.boot_file!r}{where} to {boot.who}{kind}{proxied}"
