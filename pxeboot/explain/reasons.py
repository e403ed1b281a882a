"""Which address and why, where the answer goes and why, and why there is none: in words. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from config.marks import Where
from dhcp.leases import Lease, Leases, State
from dhcp.options import Option, RelaySubOption
from dhcp.plan import DynamicPool
from dhcp.replies import EVERYBODY, Send
from dhcp.request import BOOT_SERVER_PORT, ETHERNET, Reason, Request, uuid_of
from dhcp.wire import NO_ADDRESS, Flags, Message
from pxeboot.explain.ground import Ground, Source


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a machine gets no answer, or one that does not boot it, and what would change that."""

    words: str
    advice: str
    where: Where | None = None
    """The line to look at."""


@dataclass(frozen=True, slots=True)
class Before:
    """What the leases said of a client before it was answered."""

    bound: IPv4Address | None
    offered: IPv4Address | None
    records: Mapping[IPv4Address, Lease]

    @classmethod
    def of(cls, leases: Leases, request: Request, now: float) -> "Before":
        """Look before the engine changes it."""
        bound = leases.bound_to(request.identity, request.pools, now)
        records = {lease.address: lease for lease in leases}
        return cls(bound.address if bound else None, leases.offered(request.identity, now), records)


def address(ground: Ground, send: Send, before: Before) -> Source:
    """Return why the client gets the address in yiaddr."""
    request, yiaddr = ground.request, send.message.yiaddr
    if yiaddr == NO_ADDRESS:
        if request.network.proxy:
            place = ground.subnet_place(request.network.network)
            return Source("none: addresses are another server's here", ground.marks.of((*place, "proxy")))
        if request.arrival.port == BOOT_SERVER_PORT:
            return Source("none: who asks UDP 4011 has one (PXE 2.1)")
        return Source("none: a DHCPINFORM has its address from elsewhere (RFC 2131 section 4.3.5)")
    if yiaddr == request.static_address:
        return Source(
            f"static lease of {_name(ground)}: {selector(ground)}", ground.marks.of((*ground.node_place, "ip"))
        )
    pool = request.pool_of(yiaddr)
    where = _pool_where(ground, pool) if pool is not None else None
    return Source(f"pool: {_choice(request, yiaddr, before)}{_instead(ground, before)}", where)


def _choice(request: Request, yiaddr: IPv4Address, before: Before) -> str:
    record = before.records.get(yiaddr)
    if yiaddr == before.bound:
        return "it has a lease of it"
    if yiaddr == before.offered:
        return "it was offered to it already"
    if record is not None and record.client == request.identity:
        return "it had it before, and nobody took it since"
    if yiaddr == request.requested:
        return "it asks for it (option 50), and it is free"
    if record is None:
        return "nobody ever had it; picked by its MAC"
    return "all others are taken; of those that are free, nobody used it for the longest time"


def _instead(ground: Ground, before: Before) -> str:
    """Why a machine with an address of its own gets another one."""
    request, host = ground.request, ground.request.host
    if host is None:
        return ""
    if request.static_address is None:
        return f"; its own, {host.address}, is not of this network"
    lease = before.records.get(host.address)
    if lease is not None and lease.state is State.BOUND:
        return f"; its own, {host.address}, is still leased to {lease.client}"
    return ""


def _pool_where(ground: Ground, pool: DynamicPool) -> Where | None:
    for network in ground.request.link:
        if pool in network.pools:
            place = ground.subnet_place(network.network)
            if pool.layers:
                return ground.marks.of((*pool.layers[0].place, "range"))
            return ground.marks.of((*place, "pool"))
    return None


def selector(ground: Ground) -> str:
    """Return by what the machine is known, in the order in which it is looked for."""
    request, plan, node = ground.request, ground.plan, ground.node
    sent = request.message.options
    client_id = sent.get(Option.CLIENT_IDENTIFIER)
    if request.mac in plan.by_mac:
        return f"its MAC, {request.mac}"
    if client_id is not None and client_id in plan.by_client_id:
        is_serial = node is not None and node.serial is not None and node.serial.encode() in client_id
        return f"its serial number, in option 61: {node.serial}" if is_serial and node else "its client-id (option 61)"
    uuid = uuid_of(sent)
    if uuid is not None and uuid in plan.by_uuid:
        return "its UUID (option 97)"
    circuit, remote = (request.relay.get(code) for code in (RelaySubOption.CIRCUIT_ID, RelaySubOption.REMOTE_ID))
    if (circuit, remote) in plan.by_port:
        return "the switch and port it is at (circuit-id and remote-id, option 82)"
    if (circuit, None) in plan.by_port:
        return "the port it is at (circuit-id, option 82.1)"
    return "the switch it is at (remote-id, option 82.2)"


def destination(ground: Ground, send: Send) -> Source:
    """Return why the answer goes where it goes (RFC 2131 section 4.1)."""
    request, message, to = ground.request, ground.request.message, send.destination
    if request.arrival.port == BOOT_SERVER_PORT:
        return Source("where it asked UDP 4011 from, and from our 4011 (PXE 2.1)")
    if request.relayed:
        if RelaySubOption.RELAY_SOURCE_PORT in request.relay:
            return Source("its relay (giaddr), at the port it sends from (option 82.19, RFC 8357)")
        return Source("its relay (giaddr), which hands it on (RFC 2131 section 4.1)")
    if to.hardware is not None:
        return Source("its link address, without ARP: it has no address yet, and can take one packet "
                      "(broadcast flag 0; RFC 2131 section 4.1)")  # fmt: skip
    if to.address != EVERYBODY:
        return Source("the address that it has already, ciaddr (RFC 2131 section 4.1)")
    if message.flags & Flags.BROADCAST:
        return Source("everybody: it cannot take less (broadcast flag; RFC 2131 section 4.1)")
    if request.network.proxy:
        return Source("everybody: a boot server does not know its address (PXE 2.1)")
    if request.client.traits.force_broadcast:
        quirk = ground.quirk("force_broadcast")
        return Source(f"everybody, by {quirk.why}" if quirk else "everybody", quirk.where if quirk else None)
    if message.htype != ETHERNET or len(message.chaddr) != 6:
        return Source(f"everybody: its link is no Ethernet (htype {message.htype})")
    return Source("everybody: a DHCPNAK (RFC 2131 section 4.3.2)")


ADVICE: Mapping[Reason, str] = {
    Reason.NOT_A_REQUEST: "nothing: only requests of clients are answered",
    Reason.NO_MACHINE: "nothing here: the client must send its hardware address",
    Reason.BAD_RELAY: "set the relay's address (giaddr) to its own in the client's network",
    Reason.NO_NETWORK: "add the network to dhcp.subnets, or have the relay say another one",
    Reason.NO_ADDRESS: "list the machine under `pools`, or give the subnet a `pool` of addresses",
    Reason.BOOTP: "list the machine under `pools`; one that speaks DHCP gets an address of the pool too",
    Reason.AWAY: "see why `pxeboot controller` or the API of the cluster in `dhcp.shared` does not answer",
    Reason.POOL_EMPTY: "make the pool larger or lease_s shorter; `pxeboot leases` shows who has the addresses",
    Reason.OTHER_SERVER: "nothing: it talks to another DHCP server; `pxeboot status` names those that are heard",
    Reason.NOT_OURS: "nothing, if another server gave that address; dhcp.authoritative would have it refused",
    Reason.INCOMPLETE: "nothing here: the client's message lacks what the protocol asks for",
    Reason.TOO_MANY_DECLINED: "find out who declines so many addresses, or uses them without asking",
    Reason.TOO_MANY: "list the machine under `pools`, or raise dhcp.limits",
    Reason.NO_BOOT: "nothing: its address is another server's affair, and it wants nothing to boot",
}
"""What to change when there is no answer."""


def no_answer(ground: Ground | None, reason: Reason, detail: str) -> Problem:
    """Return why a message gets no answer."""
    where, advice = None, ADVICE[reason]
    if ground is not None:
        place = ground.subnet_place(ground.request.network.network)
        match reason:
            case Reason.POOL_EMPTY:
                where = ground.marks.of((*place, "pool")) or ground.marks.of((*place, "pools"))
            case Reason.NO_ADDRESS | Reason.BOOTP | Reason.OTHER_SERVER | Reason.NO_BOOT:
                where = ground.marks.of(ground.node_place) if ground.node_place else ground.marks.of(place)
            case Reason.TOO_MANY:
                where = ground.marks.of(("dhcp", "limits"))
            case Reason.NOT_OURS:
                where = ground.marks.of(("dhcp", "authoritative"))
            case _:
                where = None
    return Problem(f"{reason.value}: {detail}", advice, where)


def nothing_to_boot(ground: Ground, source: Source) -> Problem:
    """Return why a client that wants a boot file gets none; `source` is that of the file."""
    request = ground.request
    if source.where is not None and source.why.endswith(": none"):
        return Problem("its boot file is taken away", "give that line a boot file, or remove it", source.where)
    if request.host is None and not request.network.unknown_boots:
        place = ground.subnet_place(request.network.network)
        advice = "list it under `pools`, or give its subnet `unknown: POOL`"
        return Problem("it is not configured, so it gets nothing to boot", advice, ground.marks.of(place))
    client = request.client
    if request.steered:
        advice = "nothing, if its firmware goes on to its own disk; or `pxeboot node NAME boot=netboot`"
        return Problem(f"we have no GRUB for {client}, and no other file heeds what the machine is to do", advice)
    if client.architecture is None:
        advice = "tell its architecture in dhcp.quirks (architecture_unless_told), or set boot_file"
        return Problem(f"there is no boot file for {client}", advice)
    if client.machine is None:  # dhcp.architectures has no name for it
        advice = "set boot_file for the machine itself (`dhcp: {boot_file: ...}`), or for its subnet"
        return Problem(f"there is no boot file for {client}", advice)
    name = client.machine.settings[-1]
    return Problem(f"there is no boot file for {client}", f"set dhcp.architectures.{name}.boot_file")


def no_image(name: str, why: str, where: Where | None) -> Problem:
    """Return why an image cannot be loaded by a machine that finds its way to it."""
    return Problem(f"image {name!r} cannot be loaded: {why}", "add the image, or name its right folder", where)


def refused(message: Message) -> Problem:
    """Return what a DHCPNAK means."""
    why = message.options.get(Option.MESSAGE, b"").decode("utf-8", "backslashreplace")
    return Problem(f"it is refused (DHCPNAK): {why}", "nothing: it asks anew with a DHCPDISCOVER, and gets an address")


def _name(ground: Ground) -> str:
    return ground.request.host.name if ground.request.host else "the machine"
