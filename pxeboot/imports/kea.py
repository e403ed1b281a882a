"""The configuration of Kea's DHCPv4 server → a farm. Pure."""

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Network

from config.yamltree import Mapping, Mark, Node, Scalar, mark_of
from pxeboot.imports import kea_needless, words
from pxeboot.imports.found import Draft, Imported, NotReadable, Source, texts
from pxeboot.imports.kea_classes import EVERYBODY, Classes
from pxeboot.imports.kea_options import Options
from pxeboot.imports.kea_text import entries, inside, items, root_of, text
from pxeboot.imports.levels import Levels, Settings
from pxeboot.imports.machines import Machines
from pxeboot.imports.ranges import Range
from pxeboot.imports.subnets import Given, Subnets

IMAGE, POOL = "node", "machines"
LEASES = "/var/lib/kea/kea-leases4.csv"
_BOOT = {"next-server": "next_server", "boot-file-name": "boot_file", "server-hostname": "server_name"}
_TIMES = {
    "valid-lifetime": "lease_s",
    "min-valid-lifetime": "shortest_lease_s",
    "max-valid-lifetime": "longest_lease_s",
}
_KNOWN_BY = {"client-id": "client_id", "circuit-id": "circuit_id"}
_BOUNDS = re.compile(r"\s*(?P<first>[0-9.]+)\s*-\s*(?P<last>[0-9.]+)\s*")
_NOBODY = frozenset(("0.0.0.0", ""))


def read(source: Source) -> Imported:
    """Return the farm that a kea-dhcp4.conf describes. Raises `NotReadable`."""
    draft = Draft()
    root = root_of(source, draft)
    dhcp4 = inside(root, "Dhcp4")
    if not isinstance(dhcp4, Mapping):
        raise NotReadable(f"{source.name}: there is no `Dhcp4` in it; is it the configuration of Kea's DHCPv4 server?")
    return _Reading(draft).farm(dhcp4)


@dataclass(slots=True)
class _Reading:
    draft: Draft
    levels: Levels = field(init=False)
    machines: Machines = field(init=False)
    options: Options = field(init=False)
    classes: Classes = field(init=False)
    subnets: Subnets = field(default_factory=Subnets)
    server: Settings = field(default_factory=dict)
    dhcp: Settings = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.levels, self.machines = Levels(self.draft), Machines(self.draft)
        self.options, self.classes = Options(self.draft, self.levels), Classes(self.draft)

    def farm(self, dhcp4: Mapping) -> Imported:
        """Return the farm."""
        draft, levels = self.draft, self.levels
        self._globals(dhcp4)
        for node in items(dhcp4, "client-classes"):
            self._class(node)
        for node in items(dhcp4, "subnet4"):
            self._subnet(node, None)
        for node in items(dhcp4, "shared-networks"):
            self._shared(node)
        for node in items(dhcp4, "reservations"):
            self._reservation(node)
        for network, settings in levels.networks.items():
            self.subnets.options(network).update(settings)
        self._todo(dhcp4)
        used = {one.value for node in self.machines.nodes if "tags" in node for one in node["tags"].items}
        tags = {tag: {"dhcp": levels.tags[tag]} if levels.tags.get(tag) else {} for tag in sorted(used)}
        levels.architectures = {name: settings for name, settings in levels.architectures.items() if settings}
        return draft.done(
            {
                "server": self.server,
                "dhcp": levels.dhcp(self.dhcp, self.subnets.tree(draft)),
                "images": {IMAGE: {"path": f"/srv/pxeboot/images/{IMAGE}"}},
                "pools": self.machines.pool(POOL, IMAGE),
                "tags": tags,
            }
        )

    def _todo(self, dhcp4: Mapping) -> None:
        todo = self.draft.todo
        if "interfaces" not in self.server:
            todo.append("server: {interfaces: [...]}: the network cards that machines boot from")
        kind = text(dhcp4, "lease-database", "type")
        file = text(dhcp4, "lease-database", "name") or LEASES
        if kind in ("", "memfile"):
            todo.append(f"leases: `pxeboot leases import --from kea {file}`, before the first start")
        else:
            todo.append(
                "leases: `kea-admin lease-dump` makes a file of them that `pxeboot leases import --from kea` takes"
            )
        todo.append(
            f"images: machines boot {IMAGE!r} once no `boot_file` is said; `pxeboot image build {IMAGE}` makes one"
        )
        everywhere = (self.levels.everywhere, *self.levels.architectures.values(), *self.levels.networks.values())
        if any("boot_file" in settings for settings in everywhere):
            todo.append("server: {files: ...}: the folder of the TFTP server, if the files of `boot_file` are there")

    def _globals(self, dhcp4: Mapping) -> None:
        everywhere = (self.levels.everywhere,)
        self.options.define(items(dhcp4, "option-def"))
        named = [text(node).partition("/")[0] for node in items(dhcp4, "interfaces-config", "interfaces")]
        if named and "*" not in named:
            self.server["interfaces"] = texts(named, items(dhcp4, "interfaces-config", "interfaces")[0].mark)
        if text(dhcp4, "authoritative") != "true":
            self.dhcp["authoritative"] = False
        for key, mark, value in entries(dhcp4):
            match key:
                case "option-data":
                    self.options.say(everywhere, items(dhcp4, key))
                case "valid-lifetime" | "min-valid-lifetime" | "max-valid-lifetime":
                    seconds = words.lease_s(text(value))
                    if seconds:
                        self.dhcp[_TIMES[key]] = Scalar(value.mark, seconds)
                case "decline-probation-period":
                    self.dhcp["quarantine_s"] = Scalar(value.mark, text(value))
                case "match-client-id" if text(value) == "true":
                    self.dhcp["match_client_id"] = Scalar(value.mark, "true")
                case _ if key in _BOOT:
                    self._boot(everywhere, key, value)
                case _:
                    self._other(key, mark, value, kea_needless.GLOBAL)

    def _other(self, key: str, mark: Mark, value: Node, known: frozenset[str]) -> None:
        if key in known or key in kea_needless.EVERYWHERE or (not isinstance(value, Scalar) and not value.items):
            return
        what = f"{key}: {text(value)}" if isinstance(value, Scalar) else key
        self.draft.lost(mark, what, kea_needless.INSTEAD.get(key, "nothing here does that"))

    def _boot(self, places: tuple[Settings, ...], key: str, value: Node) -> None:
        said = text(value)
        if said in _NOBODY:
            return
        if key == "next-server" and words.address(said) is None:
            self.draft.lost(value.mark, f"next-server {said}", "only an address can stand here")
            return
        self.levels.file(places, _BOOT[key], said, value.mark)

    def _settings(self, node: Node, places: tuple[Settings, ...], known: frozenset[str]) -> None:
        """What subnets, pools, classes and networks can all say."""
        for key, mark, value in entries(node):
            match key:
                case "option-data":
                    self.options.say(places, items(node, key))
                case "valid-lifetime":
                    if seconds := words.lease_s(text(value)):
                        for settings in places:
                            settings["lease_s"] = Scalar(value.mark, seconds)
                case _ if key in _BOOT:
                    self._boot(places, key, value)
                case _:
                    self._other(key, mark, value, known)

    def _class(self, node: Node) -> None:
        self.options.define(items(node, "option-def"))
        if not self.classes.learn(node):
            return
        name = text(node, "name")
        meant = self.classes.architectures.get(name)
        levels = self.levels
        if meant is None:
            places: tuple[Settings, ...] = (levels.tags.setdefault(words.host_name(name), {}),)
        elif meant == {EVERYBODY}:
            places = (levels.everywhere,)
        else:
            places = tuple(levels.architectures.setdefault(one, {}) for one in sorted(meant - {EVERYBODY}))
        self._settings(node, places, kea_needless.OF_A_CLASS)

    def _shared(self, node: Node) -> None:
        name = text(node, "name") or "shared"
        settings = self.levels.shared.setdefault(name, {})
        self._settings(node, (settings,), kea_needless.OF_A_NETWORK)
        for subnet in items(node, "subnet4"):
            self._subnet(subnet, name)
        if not settings:
            del self.levels.shared[name]

    def _subnet(self, node: Node, shared: str | None) -> None:
        try:
            network = IPv4Network(text(node, "subnet"), strict=False)
        except ValueError:
            self.draft.lost(node.mark, f"the subnet {text(node, 'subnet')!r}", "it is not ADDRESS/LENGTH")
            return
        settings = self.levels.networks.setdefault(network, {})
        if shared is not None:
            settings["shared_network"] = Scalar(node.mark, shared)
        self.subnets.take(Given(node.mark, network, None, ""), self.draft)
        self._settings(node, (settings,), kea_needless.OF_A_SUBNET)
        for pool in items(node, "pools") if self._open(node) else []:
            self._pool(pool, network)
        for reservation in items(node, "reservations"):
            self._reservation(reservation)

    def _open(self, node: Node) -> bool:
        """Whether unlisted machines get addresses there: not where some class does, for we know of none."""
        named = [text(one) for one in items(node, "client-classes")] or [text(node, "client-class")]
        for name in named:
            if name == "KNOWN":
                why = "it is for listed machines, which have addresses of their own"
                self.draft.note(mark_of(node, ("client-class",), key=True), f"client-class {name}", why)
                return False
            if name not in ("", "UNKNOWN"):
                why = "who may have an address is not decided by classes here; its pools are left out"
                self.draft.lost(mark_of(node, ("client-class",), key=True), f"client-class {name}", why)
                return False
        return True

    def _pool(self, node: Node, network: IPv4Network) -> None:
        said = text(node, "pool")
        found = _BOUNDS.fullmatch(said)
        try:
            if found is not None:
                first, last = words.address(found["first"]), words.address(found["last"])
            else:
                block = IPv4Network(said.strip(), strict=False)
                first, last = block[0], block[-1]
        except ValueError:
            first = last = None
        if first is None or last is None:
            self.draft.lost(node.mark, f"the pool {said!r}", "it is not FIRST - LAST")
            return
        settings: Settings = {}
        self._settings(node, (settings,), kea_needless.OF_A_POOL)
        if not self._open(node):
            return
        given = Range(min(first, last), max(first, last))
        self.subnets.take(Given(node.mark, network, given, POOL, settings), self.draft)

    def _reservation(self, node: Node) -> None:
        ip, name = words.address(text(node, "ip-address")), text(node, "hostname")
        card = text(node, "hw-address")
        what = f"the reservation of {name or card or text(node, 'client-id') or 'nobody'}"
        if ip is None:
            self.draft.lost(node.mark, what, "a machine has an address of its own here (ip-address); give it one")
            return
        known_by = {ours: unquoted(text(node, key)) for key, ours in _KNOWN_BY.items() if text(node, key)}
        if not card and not known_by:
            other = next((key for key in ("duid", "flex-id") if text(node, key)), "nothing")
            why = f"a machine is known by its MAC, client-id or circuit-id here, not by {other}"
            self.draft.lost(node.mark, what, why)
            return
        dhcp: Settings = {}
        self._settings(node, (dhcp,), kea_needless.OF_A_RESERVATION)
        tags = []
        for one in items(node, "client-classes"):
            if text(one) in self.classes.tags:
                tags.append(words.host_name(text(one)))
            else:
                self.draft.lost(
                    one.mark, f"the class {text(one)!r} of {what}", "no class without a `test` is called so"
                )
        self.machines.add(node.mark, name, ip, macs=[card.lower()] if card else [], known_by=known_by, tags=tags,
                          dhcp=dhcp or None)  # fmt: skip


def unquoted(value: str) -> str:
    """An identifier as we write it: Kea's hex, or its text in single quotation marks.

    >>> unquoted("'Gi1/0/30'"), unquoted("0x0a4d"), unquoted("01:0a")
    ('Gi1/0/30', '0a:4d', '01:0a')
    """
    if len(value) > 1 and value[0] == value[-1] == "'":
        return value[1:-1]
    digits = value.removeprefix("0x")
    if ":" not in digits and len(digits) > 2 and len(digits) % 2 == 0 and re.fullmatch("[0-9a-fA-F]+", digits):
        return ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))
    return value
