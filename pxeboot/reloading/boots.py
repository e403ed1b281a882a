"""What a farm gives each of its machines at its next boot, as names and texts that can be compared. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address

from config.dhcpoptions import decode_value, name_of
from config.model import Cluster, Farm, Node, Subnet
from dhcp.layers import ALWAYS, FILE, LEASE_TIME, SEND, SIADDR, SNAME, Layer, overlay
from dhcp.plan import Host, Network, Plan, plan
from pxeboot.bootfiles.machine import Farmhouse, Machine
from pxeboot.reloading.settings import shown

Facts = Mapping[str, str]
"""What a machine gets, by what it is. What it does not get is not there."""

_FIELDS = {SIADDR: "DHCP siaddr", SNAME: "DHCP sname", FILE: "boot file", LEASE_TIME: "DHCP lease time, s"}
_OF_CLUSTER = ("tokens", "lts_conf", "section", "join_key", "api_server", "api_address", "command", "token_file")
"""Settings of a cluster that its machines can tell."""
_OF_MACHINE = ("client_id", "uuid", "serial", "circuit_id", "remote_id")


@dataclass(frozen=True, slots=True)
class Unlisted:
    """The machines of a subnet that the farm does not list."""

    subnet: str
    facts: Facts


class View:
    """One farm, and what it gives its machines. Raises `ValueError` for options that cannot be encoded."""

    def __init__(self, farm: Farm) -> None:
        self.farm = farm
        self._house = Farmhouse(farm)
        self._plan: Plan = plan(farm)
        self.nodes: dict[str, Node] = {node.name: node for pool in farm.pools for node in pool.nodes}
        self.names: dict[str, str] = {mac: node.name for node in self.nodes.values() for mac in node.macs}
        """Machines' names, by their cards."""
        self._kinds: dict[tuple[object, ...], Facts] = {}

    def own(self, node: Node) -> Facts:
        """Return what is this machine's alone."""
        facts = {"address": str(node.ip), "cards": ", ".join(node.macs), "boot": node.boot}
        facts |= {key: str(value) for key, value in node if key in _OF_MACHINE and value is not None}
        return facts

    def common(self, node: Node) -> Facts:
        """Return what it shares with others of its kind: one object for all of them."""
        machine = self._house.machine(node.macs[0] if node.macs else "", node.ip, node.name)
        host, network = self._plan.by_address.get(node.ip), self._plan.network_of(node.ip)
        if machine is None:
            return {}
        own = () if host is None else tuple(sorted(host.own.options.items()))
        kind = (machine.pool.name, node.tags, None if network is None else network.network, own)
        if kind not in self._kinds:
            self._kinds[kind] = self._facts(machine, host, network)
        return self._kinds[kind]

    def unlisted(self) -> list[Unlisted]:
        """Return what machines get that are not listed, by their subnets."""
        return [Unlisted(str(subnet.subnet), self._unlisted(subnet)) for subnet in self.farm.dhcp.subnets]

    def _unlisted(self, subnet: Subnet) -> Facts:
        network = next(network for network in self._plan.networks if network.network == subnet.subnet)
        machine = self._house.machine("", subnet.subnet.network_address, "(unlisted)")
        ranges = [*([subnet.pool] if subnet.pool else []), *(pool.range for pool in subnet.pools)]
        facts = {"addresses": ", ".join(map(str, ranges))} if ranges else {}
        if machine is not None:
            facts |= self._facts(machine, None, network)
        elif network is not None:
            facts |= self._dhcp((*network.layers, *network.unknown_tags))
        return facts

    def _facts(self, machine: Machine, host: Host | None, network: Network | None) -> Facts:
        pool, image = machine.pool, self.farm.images[machine.pool.image]
        facts = {
            "pool": pool.name,
            "image": pool.image,
            "image's path": str(image.path),
            "root": pool.root
            if image.engine == "pxeboot" or pool.root == "http"
            else f"{pool.root} by {image.engine}",
            "writable": shown(pool.writable) or "no",
            "kernel parameters": " ".join(machine.kernel_parameters),
            "services": ", ".join(machine.services),
        }
        facts |= {f"lts.conf {key}": value for key, value in machine.lts.items()}
        facts |= {f"label {key}": value for key, value in machine.labels.items()}
        facts |= {f"taint {taint.key}:{taint.effect}": taint.value for taint in machine.taints}
        if pool.cluster is not None:
            facts |= {"cluster": pool.cluster, **_cluster(self.farm.clusters[pool.cluster])}
        tags = host.tags if host is not None else network.unknown_tags if network is not None else ()
        own = (host.own,) if host is not None else ()
        facts |= self._dhcp((*(network.layers if network is not None else ()), *tags, *own))
        return {**self._everybody, **{what: text for what, text in facts.items() if text}}

    def _dhcp(self, layers: Iterable[Layer]) -> Facts:
        default = Layer((), {LEASE_TIME: self._plan.lease_s.to_bytes(4, "big")})
        return {
            _option(code): text for code, data in overlay((default, *layers)).items() if (text := _text(code, data))
        }

    @cached_property
    def _everybody(self) -> Facts:
        """What every machine gets."""
        node, server = self.farm.node, self.farm.server
        facts = {
            "timezone": node.timezone,
            "root password": node.root_password_hash or "",
            "modules": ", ".join(node.modules),
            "ssh keys": ", ".join(_key(key) for key in node.ssh_authorized_keys),
            "lts.conf": str(self.farm.lts_conf or ""),
            "server's address": str(server.address or ""),
            "HTTP port": str(server.http_port),
            "NBD port": str(server.nbd_port),
            "netconsole port": str(self.farm.machine_logs.netconsole_port or ""),
        }
        facts |= {f"sysctl {key}": value for key, value in node.sysctls.items()}
        facts |= {f"file {path}": file.content or f"a copy of {file.from_}" for path, file in node.files.items()}
        facts |= {f"mode of {path}": file.mode for path, file in node.files.items()}
        for name, layer in self._plan.architectures.items():
            facts |= {
                f"{_option(code)} ({name})": text
                for code, data in layer.options.items()
                if (text := _text(code, data))
            }
        return {what: text for what, text in facts.items() if text}


def _cluster(cluster: Cluster) -> Facts:
    """Return what machines see of their cluster."""
    values = dict(cluster)
    return {f"cluster's {key}": text for key in _OF_CLUSTER if (text := shown(values[key]))}


def _key(key: str) -> str:
    """Return an SSH key as people tell them apart: by its comment, else by its end."""
    words = key.split()
    return words[2] if len(words) > 2 else f"...{key[-12:]}"


def _option(code: int) -> str:
    if code in _FIELDS:
        return _FIELDS[code]
    return f"DHCP {name_of(code - SEND)} is sent" if code >= SEND else f"DHCP {name_of(code)}"


def _text(code: int, data: bytes) -> str:
    if code >= SEND:
        return "always" if data == ALWAYS else "never"
    match code:
        case _ if code == SIADDR:
            return str(IPv4Address(data)) if len(data) == 4 else ""
        case _ if code == LEASE_TIME:
            return str(int.from_bytes(data, "big"))
        case _ if code in (SNAME, FILE):
            return data.decode("utf-8", "replace") or "(none)"
        case _:
            return decode_value(code, data) if data else ""
