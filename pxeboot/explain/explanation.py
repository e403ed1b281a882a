"""One packet explained: the engine is run on it, and everything that it decides is traced to a line or a rule. Pure.

Nothing is stored, and nothing is sent: the server is one that is made for this.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

from config.events import Stage
from config.marks import Marks, Where
from config.model import Farm
from config.yamltree import Place
from dhcp import boot, pxe, quirks
from dhcp.actions import Action, Happened, Probe
from dhcp.engine import Server
from dhcp.models import Model, Step, model_for, next_steps
from dhcp.options import MessageType, Option
from dhcp.plan import machine_name
from dhcp.replies import Send
from dhcp.request import BOOT_SERVER_PORT, Arrival, Ignored, Request
from dhcp.told import told
from dhcp.wire import NO_ADDRESS, Message, Op, Packed, options_in
from pxeboot.explain import packets, reasons, rows
from pxeboot.explain.boot import boot_file
from pxeboot.explain.ground import Ground, Source
from pxeboot.explain.reasons import Before, Problem
from pxeboot.explain.rows import Row
from pxeboot.intents import Boot, Intent, Intents, Origin

NOT_OURS = "the file is not ours"


@dataclass(frozen=True, slots=True)
class MatchedQuirk:
    """A quirk that fits the client."""

    name: str
    source: str
    """How one knows."""
    where: Where | None
    """None of a built-in one."""
    decides: tuple[str, ...]
    """What it decides for this client; nothing, if others came first."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent."""

    send: Send
    packed: Packed
    kind: str
    address: Source
    destination: Source
    fields: tuple[Row, ...]
    options: tuple[Row, ...]
    left_out: tuple[Row, ...]
    """Would be sent if there were room."""
    not_sent: tuple[Row, ...]
    """Configured for it, and not sent."""
    probed: bool
    """Whether the address is first looked for on the network."""

    @property
    def rows(self) -> tuple[Row, ...]:
        """Everything that is sent."""
        return (*self.fields, *self.options)


@dataclass(frozen=True, slots=True)
class ToldIntent:
    """What the machine is to boot, and what becomes of it."""

    intent: Intent
    where: Where | None
    follows: str
    image: str = ""
    """The image that our GRUB loads then, if it does."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything about one packet."""

    asked: Message
    arrival: Arrival
    name: str
    """The machine's; of one that is not configured, made of its MAC."""
    network: Source | None
    """The network that it is on; None if it is none of ours."""
    answer: Answer | None
    problem: Problem | None
    quirks: tuple[MatchedQuirk, ...]
    model: Model
    steps: tuple[Step, ...]
    """What the client does next."""
    intent: ToldIntent | None
    boots: bool
    """Whether it gets all that it wants, as far as this answer goes."""
    beside: Message | None = None
    """The offer of another server that stands for the real one, where addresses are its affair."""
    boot_server: "Explanation | None" = None
    """What it then asks UDP 4011, if it does."""


@dataclass(frozen=True, slots=True)
class Desk:
    """A server that answers made-up packets, and what its words are made from."""

    server: Server
    farm: Farm
    marks: Marks
    intents: Mapping[str, Intent]
    """What was said at run time, by machine name."""
    own: frozenset[IPv4Address] = frozenset()
    """Addresses of ours, which nobody gets, besides the one that a packet comes in at."""
    broken_images: Mapping[str, str] = field(default_factory=dict)
    """Images that are not there, or not whole, by name, and why."""
    places: Mapping[str, Place] = field(init=False, repr=False)
    """Where the configuration lists each machine, by name."""

    def __post_init__(self) -> None:
        pools = enumerate(self.farm.pools)
        listed = {node.name: ("pools", p, "nodes", n) for p, pool in pools for n, node in enumerate(pool.nodes)}
        object.__setattr__(self, "places", listed)

    def explain(self, message: Message, arrival: Arrival, now: float) -> Explanation:
        """Return what becomes of a packet; `now` is as for `Server.receive`."""
        server = self.server
        configured = {node.name: Boot(node.boot) for pool in self.farm.pools for node in pool.nodes}
        steered = Intents(configured, self.intents).steered
        server.own_addresses(self.own | {arrival.address})
        server.steered = lambda: steered
        request = server.understand(message, arrival, now)
        before = None if isinstance(request, Ignored) else Before.of(server.leases, request, now)
        actions, probed = _flat(server.receive(message, arrival, now))
        mac = message.chaddr.hex(":")
        model = model_for(message)
        if isinstance(request, Ignored) or before is None:
            ignored = next(action for action in actions if isinstance(action, Ignored))
            problem = reasons.no_answer(None, ignored.reason, ignored.detail)
            host = server.plan.by_mac.get(mac)
            name = host.name if host else machine_name(mac)
            return Explanation(message, arrival, name, None, None, problem, self._quirks(message, mac),
                               model, next_steps(message), None, boots=False)  # fmt: skip
        name = request.name
        send = next((action for action in actions if isinstance(action, Send)), None)
        at = message.ciaddr
        if send is not None and send.message.yiaddr != NO_ADDRESS:
            at = send.message.yiaddr
        place = self.places.get(request.host.name, ()) if request.host else ()
        ground = Ground(self.farm, self.marks, server.plan, request, told(request, server.plan, at), place)
        matched = self._quirks(message, request.mac, request)
        network = self._network(ground)
        if send is None:
            steps = () if _wants_none(request) else next_steps(message)
            return Explanation(message, arrival, name, network, None, _silence(ground, actions), matched, model, steps,
                               None, boots=False)  # fmt: skip
        answer = _answer(ground, send, before, probed=probed)
        overloaded = Option.OPTION_OVERLOAD in dict(options_in(answer.packed.data[240:]))
        heard = [_as_sent(answer)]
        beside = None
        if answer.kind == MessageType.DHCPOFFER.name and request.network.proxy:
            beside = _other_server(request)
            heard.insert(0, beside)
        steps = next_steps(message, *heard, overloaded=overloaded)
        intent = self._intent(ground, name, answer, steps) if request.client.boots else None
        trouble = _problem(ground, answer) or self._image_trouble(ground, intent)
        explanation = Explanation(message, arrival, name, network, answer, trouble, matched, model, steps, intent,
                                  boots=_boots(trouble, steps, intent), beside=beside)  # fmt: skip
        if arrival.port != BOOT_SERVER_PORT and any("UDP 4011" in step.what for step in steps):
            return self._with_boot_server(explanation, request, now)
        return explanation

    def _with_boot_server(self, first: Explanation, request: Request, now: float) -> Explanation:
        """Add what the client then asks UDP 4011."""
        assert first.answer is not None
        said = first.answer.send.message
        address = said.yiaddr if said.yiaddr != NO_ADDRESS else _some_address(request)  # as of `_other_server`
        menu = pxe.decode(said.options.get(Option.VENDOR_SPECIFIC_INFORMATION, b"")).menu
        message = packets.boot_server(first.asked, address, menu)
        uefi = first.model is Model.EDK2_PXE
        arrival = packets.boot_server_arrival(message, first.arrival.address, uefi=uefi)
        second = self.explain(message, arrival, now)
        return replace(first, boots=first.boots and second.boots, boot_server=second)

    def _network(self, ground: Ground) -> Source:
        """Say which network the packet is from, and how one knows."""
        request = ground.request
        message, network = request.message, request.network
        if 5 in request.relay:
            how = "its relay says so (option 82.5, RFC 3527)"
        elif Option.SUBNET_SELECTION in message.options:
            how = "the client says so (option 118, RFC 3011)"
        elif request.relayed:
            how = f"its relay's address is {message.giaddr} (giaddr)"
        elif request.arrival.unicast and message.ciaddr != NO_ADDRESS:
            how = f"its address is {message.ciaddr} (ciaddr)"
        else:
            how = f"it came in at our {request.arrival.address}"
        shared = (
            f", on one wire with {', '.join(str(n.network) for n in request.link[1:])}" if request.link[1:] else ""
        )
        where = ground.marks.of((*ground.subnet_place(network.network), "subnet"))
        return Source(f"{network.network}{shared}: {how}", where)

    def _quirks(self, message: Message, mac: str, request: Request | None = None) -> tuple[MatchedQuirk, ...]:
        user = self.farm.dhcp.quirks
        because = (request.client if request else boot.client(message.options, mac, user)).traits.because
        own = {quirk.name: i for i, quirk in enumerate(user)}
        return tuple(
            MatchedQuirk(
                quirk.name,
                quirk.source,
                self.marks.of(("dhcp", "quirks", own[quirk.name])) if quirk.name in own else None,
                tuple(trait for trait, name in because.items() if name == quirk.name),
            )
            for quirk in quirks.match(message.options, mac, user)
        )

    def _intent(self, ground: Ground, name: str, answer: Answer, steps: Sequence[Step]) -> ToldIntent | None:
        """Return what a machine is to do with its boot file; None if it gets none, and nothing was said."""
        file = answer.send.message.file or answer.send.message.options.get(Option.BOOTFILE_NAME, b"").rstrip(b"\0")
        node = ground.node
        intent = self.intents.get(name) or Intent(Boot(node.boot) if node else Boot.NETBOOT)
        if not file and intent.boot is Boot.NETBOOT:
            return None
        where = self.marks.of((*ground.node_place, "boot")) if intent.origin is Origin.FARM and node else None
        words, image = _follows(ground, intent, file.decode("utf-8", "replace"))
        if steps and steps[-1].to_disk:
            words, image = "its firmware goes to the disk before any boot file", ""
        return ToldIntent(intent, where, words, image)

    def _image_trouble(self, ground: Ground, intent: ToldIntent | None) -> Problem | None:
        """Return why the image that our GRUB would load is none; None if it is one, or none is loaded."""
        if intent is None or intent.image not in self.broken_images:
            return None
        where = ground.marks.nearest(("images", intent.image, "path"))
        return reasons.no_image(intent.image, self.broken_images[intent.image], where)


def _follows(ground: Ground, intent: Intent, file: str) -> tuple[str, str]:
    """Return what becomes of an intent in words, and the image that is loaded, if one is."""
    if not file:
        return "no boot file that could heed it", ""
    if not any(file.endswith(own) for own in boot.BUILT_IN.values()):
        return f"{NOT_OURS}, and what it does is not known here", ""
    place = ground.node_place
    subnet = ground.farm.dhcp.subnets[int(ground.subnet_place(ground.request.network.network)[2])]
    pool = ground.farm.pools[int(place[1])] if place else next(
        (pool for pool in ground.farm.pools if pool.name == subnet.unknown), None
    )  # fmt: skip
    image = f"image {pool.image!r} of pool {pool.name!r}" if pool else "nothing"
    name = pool.image if pool else ""
    if pool and intent.image:
        name, _, version = intent.image.partition("@")
        image = (
            f"image {name!r}" + (f", version {version[:12]}," if version else "") + f" by the word of {intent.whence}"
        )
    match intent.boot:
        case Boot.NETBOOT:
            return f"our GRUB loads {image}", name
        case Boot.LOCAL:
            return "our GRUB goes on with the machine's own disk", ""
        case Boot.REFUSE:
            return "our GRUB says that it is refused, and starts again after 60 s", ""
        case Boot.ONCE:
            return f"our GRUB loads {image} this time, and from then on the machine's own disk", name


def _answer(ground: Ground, send: Send, before: Before, *, probed: bool) -> Answer:
    packed = send.pack()
    address = reasons.address(ground, send, before)
    message = send.message
    value = message.options.get(Option.DHCP_MESSAGE_TYPE)
    return Answer(
        send,
        packed,
        MessageType(value[0]).name if value else "BOOTP reply",
        address,
        reasons.destination(ground, send),
        rows.fields(ground, send, packed, address),
        rows.sent_options(ground, send, packed),
        rows.left_out(ground, send, packed),
        rows.not_sent(ground, message),
        probed,
    )


def _as_sent(answer: Answer) -> Message:
    """The answer as its client gets it: without what had no room."""
    message = answer.send.message
    kept = {code: value for code, value in message.options.items() if code not in answer.packed.left_out}
    return replace(message, options=kept)


def _problem(ground: Ground, answer: Answer) -> Problem | None:
    message, client = answer.send.message, ground.request.client
    if answer.kind == MessageType.DHCPNAK.name:
        return reasons.refused(message)
    if not client.boots or client.traits.own_file_names or ground.what.file:
        return None
    return reasons.nothing_to_boot(ground, boot_file(ground))


def _silence(ground: Ground, actions: Sequence[Action]) -> Problem:
    """Return why there is no answer."""
    for action in actions:
        if isinstance(action, Ignored):
            return reasons.no_answer(ground, action.reason, action.detail)
    failed = [action for action in actions if isinstance(action, Happened) and action.stage is Stage.FAILED]
    if failed and ground.request.message_type is MessageType.DHCPDISCOVER:
        nothing = reasons.nothing_to_boot(ground, boot_file(ground))
        return Problem(f"{nothing.words}, and addresses are another server's here", nothing.advice, nothing.where)
    noted = "; ".join(action.detail for action in actions if isinstance(action, Happened))
    kind = ground.request.message_type.name if ground.request.message_type else "BOOTP request"
    return Problem(f"no answer is due to this {kind}{f': {noted}' if noted else ''}", "nothing")


def _boots(problem: Problem | None, steps: Sequence[Step], intent: ToldIntent | None) -> bool:
    refused = intent is not None and intent.intent.boot is Boot.REFUSE
    return problem is None and bool(steps) and steps[-1].ok and not steps[-1].to_disk and not refused


def _wants_none(request: Request) -> bool:
    return request.message_type in (MessageType.DHCPRELEASE, MessageType.DHCPDECLINE)


def _flat(actions: Iterable[Action]) -> tuple[list[Action], bool]:
    """Return the actions with those that wait for a probe, and whether one was made."""
    out: list[Action] = []
    probed = False
    for action in actions:
        if isinstance(action, Probe):
            probed = True
            out += action.then
        else:
            out.append(action)
    return out, probed


def _other_server(request: Request) -> Message:
    """Return the offer that a plain DHCP server would make beside our proxyDHCP's."""
    network = request.network
    server = IPv4Address(network.last if request.arrival.address != IPv4Address(network.last) else network.last - 1)
    said = {
        int(Option.DHCP_MESSAGE_TYPE): bytes((MessageType.DHCPOFFER,)),
        int(Option.SERVER_IDENTIFIER): server.packed,
        int(Option.IP_ADDRESS_LEASE_TIME): (3600).to_bytes(4, "big"),
        int(Option.SUBNET_MASK): network.network.netmask.packed,
    }
    return replace(request.message, op=Op.BOOTREPLY, hops=0, secs=0, yiaddr=_some_address(request), options=said)


def _some_address(request: Request) -> IPv4Address:
    """An address that another server may give a client: its own, or any of its network."""
    return request.static_address or IPv4Address(request.network.first)
