"""What an answer is explained from: the request, the configuration, and the lines it was written on. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

from config.dhcpoptions import decode_value
from config.marks import Marks, Where
from config.model import Farm, Node
from config.yamltree import Place
from dhcp.layers import FILE, LEASE_TIME, SIADDR, SNAME, Layer
from dhcp.options import Option
from dhcp.plan import Plan
from dhcp.request import Request
from dhcp.told import Told

_OWN_SETTINGS = {SIADDR: "next_server", SNAME: "server_name", FILE: "boot_file", LEASE_TIME: "lease_s"}
MASK_AND_BROADCAST = (int(Option.SUBNET_MASK), int(Option.BROADCAST_ADDRESS))


@dataclass(frozen=True, slots=True)
class Overrode:
    """What another place says, and did not win."""

    value: str
    level: str
    where: Where | None


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value comes from: a line of the configuration, or a rule in words."""

    why: str
    where: Where | None = None
    overrode: tuple[Overrode, ...] = ()
    """The nearest first."""
    note: str = ""
    """What is to be said after that line."""


@dataclass(frozen=True, slots=True)
class Ground:
    """All that the words about one request are made from."""

    farm: Farm
    marks: Marks
    plan: Plan
    request: Request
    what: Told
    """What the client is told at its address."""
    node_place: Place
    """Where the configuration lists the machine; () if it does not."""

    @property
    def node(self) -> Node | None:
        """The machine in the configuration."""
        place = self.node_place
        return self.farm.pools[int(place[1])].nodes[int(place[3])] if place else None

    def subnet_place(self, network: IPv4Network) -> Place:
        """Return where a subnet is configured."""
        found = (i for i, subnet in enumerate(self.farm.dhcp.subnets) if subnet.subnet == network)
        return ("dhcp", "subnets", next(found, 0))

    def level(self, place: Place) -> str:
        """Return what people call a place that carries options."""
        match place:
            case ("dhcp",):
                return "global"
            case ("dhcp", "shared_networks", name):
                return f"shared network {name}"
            case ("dhcp", "architectures", name):
                return f"architecture {name}"
            case ("dhcp", "subnets", int(i)):
                return f"subnet {self.farm.dhcp.subnets[i].subnet}"
            case ("dhcp", "subnets", int(i), "subnet"):
                return f"the network {self.farm.dhcp.subnets[i].subnet} itself"
            case ("dhcp", "subnets", int(i), "pools", int(p)):
                span = self.farm.dhcp.subnets[i].pools[p].range
                return f"address pool {span.first}-{span.last}"
            case ("tags", str(name), "dhcp"):
                return self._tag(name)
            case ("pools", *_):
                return f"node {self.request.host.name if self.request.host else ''}"
            case _:
                return "default"

    def _tag(self, name: str) -> str:
        if name == "all":
            return "tag all"
        if self.node is not None and name in self.node.tags:
            return f"tag {name} of the node"
        pool = self.farm.pools[int(self.node_place[1])].name if self.node_place else None
        if pool is None:
            pool = next((s.unknown for s in self.farm.dhcp.subnets if s.subnet == self.request.network.network), None)
        return f"tag {name} of pool {pool}"

    def where(self, layer: Layer, code: int) -> Where | None:
        """Return the line on which a layer says something of `code`."""
        place = layer.place
        if not place:  # what holds unless something else is said
            if code == LEASE_TIME:
                return self.marks.of(("dhcp", "lease_s"))
            return self.marks.of((*self.node_place, "name")) if self.node_place else None
        if place[-1] == "subnet" and len(place) == 4:
            return self.marks.of(place)
        if code in _OWN_SETTINGS:
            return self.marks.of((*place, _OWN_SETTINGS[code]))
        return self.marks.option(place, code) or self.marks.nearest(place)

    def layers_with(self, code: int) -> Sequence[Layer]:
        """Return the layers that say something of `code`, the most specific first."""
        return [layer for layer in reversed(self.what.layers) if code in layer.options]

    def source(self, code: int) -> Source | None:
        """Return which place of the configuration decided `code`; None if none says anything of it."""
        layers = self.layers_with(code)
        if not layers:
            return None
        won, *lost = layers
        overrode = tuple(
            Overrode(shown(code, layer.options[code]), self.level(layer.place), self.where(layer, code))
            for layer in lost
            if layer.place  # a default is not overridden by who configures
        )
        why = self.level(won.place)
        if not won.place and code == Option.HOST_NAME:
            why = "its name in the configuration" if self.node_place else "made of its MAC, as it is not configured"
        elif not won.place and code == LEASE_TIME:
            why = "global" if self.where(won, code) else "dhcp.lease_s, whose default this is"
        elif not won.place and code == Option.LOG_SERVER:
            why = "our address, as machine_logs.syslog_port is 514"
        elif won.place[-1:] == ("subnet",) and code in MASK_AND_BROADCAST:
            why = "the network's own"
        return Source(why, self.where(won, code), overrode)

    def quirk(self, trait: str) -> Source | None:
        """Return which quirk decided a trait of the client; None if it is as for everybody."""
        name = self.request.client.traits.because.get(trait)
        if name is None:
            return None
        return Source(f"quirk {name}", self.quirk_place(name))

    def quirk_place(self, name: str) -> Where | None:
        """Return where the configuration has a quirk; None for one of our own."""
        for i, quirk in enumerate(self.farm.dhcp.quirks):
            if quirk.name == name:
                return self.marks.of(("dhcp", "quirks", i))
        return None


def shown(code: int, value: bytes) -> str:
    """Return the value of an option, or of a field that is configured like one, on one line."""
    if not value:
        return "none"
    match code:
        case 256:  # SIADDR
            return ".".join(map(str, value))
        case 257 | 258:  # SNAME, FILE
            return repr(value.decode("utf-8", "backslashreplace"))
        case 259:  # LEASE_TIME
            seconds = int.from_bytes(value, "big")
            return "infinite" if seconds == 0xFFFFFFFF else f"{seconds} s"
        case _:
            return decode_value(code, value)
