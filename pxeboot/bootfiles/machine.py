"""One machine as its boot files see it: what the farm says about whoever asks, put together. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from config.model import Farm, Node, Pool, Tag, Taint


@dataclass(frozen=True, slots=True)
class Machine:
    """Everything that a machine's boot files are made from."""

    name: str
    mac: str
    """The card that boots, as six hex pairs with colons."""
    macs: tuple[str, ...]
    ip: IPv4Address
    pool: Pool
    kernel_parameters: tuple[str, ...]
    lts: dict[str, str]
    """lts.conf keys from its tags; an lts.conf file adds to them and wins."""
    labels: dict[str, str]
    taints: tuple[Taint, ...]
    services: tuple[str, ...]


class Farmhouse:
    """The farm, indexed for one question: which machine is this?"""

    def __init__(self, farm: Farm) -> None:
        """Index `farm`; a reload makes a new one."""
        self.farm = farm
        self._by_mac: dict[str, tuple[Pool, Node]] = {}
        self._by_ip: dict[IPv4Address, tuple[Pool, Node]] = {}
        self._names = {node.name for pool in farm.pools for node in pool.nodes}
        self._pools = {pool.name: pool for pool in farm.pools}
        for pool in farm.pools:
            for node in pool.nodes:
                self._by_ip[node.ip] = (pool, node)
                for mac in node.macs:
                    self._by_mac[mac] = (pool, node)

    def name_of(self, mac: str) -> str | None:
        """Return the name of the node that has this MAC; None for a machine that is not listed."""
        known = self._by_mac.get(mac)
        return known[1].name if known else None

    def is_listed(self, name: str) -> bool:
        """Return whether there is a node of this name."""
        return name in self._names

    def node_at(self, ip: IPv4Address) -> Node | None:
        """Return the node whose static address this is."""
        known = self._by_ip.get(ip)
        return known[1] if known else None

    def machine(self, mac: str, ip: IPv4Address, unknown_name: str) -> Machine | None:
        """Return the machine with this MAC at this address, or None when the farm gives it nothing to boot.

        So it is with one that is not listed and whose name, which is made of its MAC, is a listed machine's: it would
        boot, join and have a disk as that one, with no address of its.
        """
        known = self._by_mac.get(mac) or self._by_ip.get(ip)  # a machine need not be known by its cards
        if known is not None:
            pool, node = known
            macs = node.macs if mac in node.macs or not mac else (*node.macs, mac)
            return self._assemble(pool, node.name, mac, macs, ip, (*pool.tags, *node.tags))
        if unknown_name in self._names:
            return None
        for subnet in self.farm.dhcp.subnets:
            if ip in subnet.subnet and subnet.unknown is not None:
                pool = self._pools[subnet.unknown]
                return self._assemble(pool, unknown_name, mac, (mac,), ip, pool.tags)
        return None

    def _assemble(
        self, pool: Pool, name: str, mac: str, macs: tuple[str, ...], ip: IPv4Address, tag_names: Sequence[str]
    ) -> Machine:
        tags = [self.farm.tags[tag] for tag in ("all", *tag_names) if tag in self.farm.tags]
        return Machine(
            name=name,
            mac=mac,
            macs=macs,
            ip=ip,
            pool=pool,
            kernel_parameters=(*(word for tag in tags for word in tag.kernel_parameters), *pool.kernel_parameters),
            lts={key: value for tag in tags for key, value in tag.lts.items()},
            labels={key: value for tag in tags for key, value in tag.labels.items()},
            taints=_taints(tags),
            services=tuple(dict.fromkeys((*self.farm.node.services, *(s for tag in tags for s in tag.services)))),
        )


def _taints(tags: Sequence[Tag]) -> tuple[Taint, ...]:
    """Return the taints of all tags; for one key and effect the last tag's value counts."""
    return tuple({(taint.key, taint.effect): taint for tag in tags for taint in tag.taints}.values())
