"""The configuration of ISC's dhcpd → a farm. Pure."""

from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network

from config.yamltree import Mark, Scalar
from pxeboot.imports import dhcpd_needless, words
from pxeboot.imports.dhcpd_conditions import EVERYBODY, who
from pxeboot.imports.dhcpd_hosts import Host
from pxeboot.imports.dhcpd_options import Definitions
from pxeboot.imports.dhcpd_text import Open, Statement, statements
from pxeboot.imports.found import Draft, Imported, NotReadable, Source, tree
from pxeboot.imports.levels import Levels, Settings
from pxeboot.imports.machines import Machines
from pxeboot.imports.ranges import Range
from pxeboot.imports.subnets import Given, Subnets

IMAGE, POOL = "node", "machines"
LEASES = "/var/lib/dhcp/dhcpd.leases"
_BOOT = {"filename": "boot_file", "next-server": "next_server", "server-name": "server_name"}
_TIMES = ("default-lease-time", "max-lease-time", "min-lease-time")
_STRANGERS = (["unknown-clients"], ["unknown", "clients"])


@dataclass(frozen=True, slots=True)
class _Scope:
    """Where statements stand: whom they hold for."""

    places: tuple[Settings, ...]
    network: IPv4Network | None = None
    shared: str | None = None
    tags: tuple[str, ...] = ()
    in_pool: bool = False
    strangers: bool = True
    """Whether unlisted machines get addresses here."""
    words: str = "everything"


def read(source: Source, opened: Open) -> Imported:
    """Return the farm that a dhcpd.conf describes. Raises `NotReadable`."""
    draft = Draft()
    found = statements(source, draft, opened)
    if not any(one.key in ("subnet", "shared-network", "host", "group", "option", "authoritative") for one in found):
        raise NotReadable(f"{source.name}: there is no `subnet` in it; is it dhcpd's configuration?")
    return _Reading(draft).farm(found)


@dataclass(slots=True)
class _Reading:
    draft: Draft
    levels: Levels = field(init=False)
    machines: Machines = field(init=False)
    options: Definitions = field(init=False)
    subnets: Subnets = field(default_factory=Subnets)
    dhcp: Settings = field(default_factory=dict)
    groups: int = 0
    lease_file: str = LEASES

    def __post_init__(self) -> None:
        self.levels, self.machines = Levels(self.draft), Machines(self.draft)
        self.options = Definitions(self.draft, self.levels)

    def farm(self, found: list[Statement]) -> Imported:
        """Return the farm."""
        draft, levels = self.draft, self.levels
        self.dhcp["authoritative"] = False
        self.options.define(found)
        self._block(found, _Scope((levels.everywhere,)))
        if self.dhcp["authoritative"] is True:
            del self.dhcp["authoritative"]
        for network, settings in levels.networks.items():
            self.subnets.options(network).update(settings)
        self._boots_of_groups()
        used = {
            tag for node in self.machines.nodes if "tags" in node for tag in (one.value for one in node["tags"].items)
        }
        levels.architectures = {name: settings for name, settings in levels.architectures.items() if settings}
        draft.todo += (
            "server: {interfaces: [...]}: the network cards that machines boot from (INTERFACESv4 of dhcpd)",
            f"leases: `pxeboot leases import --from dhcpd {self.lease_file}`, before the first start",
            f"images: machines boot {IMAGE!r} once no `boot_file` is said; `pxeboot image build {IMAGE}` makes one",
        )
        if any("boot_file" in settings for settings in (levels.everywhere, *levels.architectures.values())):
            draft.todo.append(
                "server: {files: ...}: the folder of the TFTP server, if the files of `boot_file` are there"
            )
        return draft.done(
            {
                "dhcp": levels.dhcp(self.dhcp, self.subnets.tree(draft)),
                "images": {IMAGE: {"path": f"/srv/pxeboot/images/{IMAGE}"}},
                "pools": self.machines.pool(POOL, IMAGE),
                "tags": {tag: {"dhcp": settings} for tag, settings in levels.tags.items() if tag in used},
            }
        )

    def _block(self, found: list[Statement], scope: _Scope) -> None:
        closed = any(one.key == "deny" and one.rest in _STRANGERS for one in found)
        if closed or any(one.key == "allow" and one.rest[:1] == ["known-clients"] for one in found):
            scope = replace(scope, strangers=False)
        taken = False  # whether an if before an else could be carried over
        for one in found:
            if one.key in ("if", "elsif", "elseif", "else"):
                taken = self._condition(one, scope, after=taken)
            elif one.block is None:
                self._statement(one, scope)
            else:
                self._nested(one, one.block, scope)

    def _nested(self, one: Statement, block: list[Statement], scope: _Scope) -> None:
        match one.key:
            case "subnet":
                self._subnet(one, block, scope)
            case "shared-network":
                name = one.rest[0] if one.rest else "shared"
                settings = self.levels.shared.setdefault(name, {})
                self._block(block, replace(scope, places=(settings,), shared=name, words=f"the shared network {name}"))
                if not settings:
                    del self.levels.shared[name]
            case "pool":
                self._pool(one, block, scope)
            case "group":
                self.groups += 1
                tag = words.host_name(one.rest[0]) if one.rest else f"group-{self.groups}"
                settings = self.levels.tags.setdefault(tag, {})
                self._block(
                    block, replace(scope, places=(settings,), tags=(*scope.tags, tag), words=f"the group {tag}")
                )
                if not settings:
                    self._without(tag)
            case "host":
                Host(self.draft, self.machines, self.options).take(one, block, scope.tags)
            case "class":
                self._class(one, block)
            case "subnet6" | "shared-network6":
                self.draft.note(one.mark, one.text, "IPv6 is not served here")
            case key:
                self.draft.lost(one.mark, one.text, dhcpd_needless.BLOCKS.get(key, "nothing here does that"))

    def _boots_of_groups(self) -> None:
        """A group's boot file wins over that of an architecture there; here a tag's does not, but a machine's does."""
        for tag, settings in self.levels.tags.items():
            for key in _BOOT.values():
                if key not in settings or not any(key in other for other in self.levels.architectures.values()):
                    continue
                value = settings.pop(key)
                for node in self.machines.nodes:
                    if "tags" in node and tag in [one.value for one in node["tags"].items]:
                        own = node.setdefault("dhcp", tree({}, value.mark))
                        own.items.setdefault(key, (value.mark, value))

    def _without(self, tag: str) -> None:
        """A group that says nothing is no tag."""
        del self.levels.tags[tag]
        for node in self.machines.nodes:
            if "tags" in node:
                node["tags"].items = [one for one in node["tags"].items if one.value != tag]
                if not node["tags"].items:
                    del node["tags"]

    def _subnet(self, one: Statement, block: list[Statement], scope: _Scope) -> None:
        match [text.lower() for text in one.rest]:
            case [where, "netmask", mask] if (first := words.address(where)) is not None:
                network = words.network(first, mask)
            case _:
                network = None
        if network is None:
            self.draft.lost(one.mark, one.text, "it is not `subnet ADDRESS netmask MASK`")
            return
        settings = self.levels.networks.setdefault(network, {})
        if scope.shared is not None:
            settings["shared_network"] = Scalar(one.mark, scope.shared)
        self.subnets.take(Given(one.mark, network, None, ""), self.draft)
        inside = replace(scope, places=(settings,), network=network, words=f"the subnet {network}")
        self._block(block, inside)

    def _pool(self, one: Statement, block: list[Statement], scope: _Scope) -> None:
        for inner in block:
            if inner.key in ("allow", "deny") and inner.rest[:2] == ["members", "of"]:
                why = "who may have an address is not decided by classes here"
                if inner.key == "allow":
                    self.draft.lost(inner.mark, inner.text, f"{why}; the pool is left out")
                    return
                self.draft.lost(inner.mark, inner.text, why)
        settings: Settings = {}
        before = {network: len(self.subnets.given(network)) for network in [*self.levels.networks]}
        self._block(block, replace(scope, places=(settings,), in_pool=True, words="a pool"))
        for network in self.levels.networks:
            for given in self.subnets.given(network)[before.get(network, 0) :]:
                given.options.update(settings)

    def _class(self, one: Statement, block: list[Statement]) -> None:
        rules = [inner for inner in block if inner.key == "match"]
        meant = [who(rule.words[2:], self.options.codes) for rule in rules if rule.rest[:1] == ["if"]]
        if len(meant) != 1 or meant[0] is None:
            why = "machines are told apart here by their architecture, iPXE, network, or as listed machines"
            self.draft.lost(one.mark, one.text, why)
            return
        self._for(meant[0], [inner for inner in block if inner.key != "match"], one)

    def _condition(self, one: Statement, scope: _Scope, *, after: bool) -> bool:
        """`if`, `elsif` and `else`. `after`: the condition before an `else` was one that is known here."""
        block = one.block or []
        if one.key == "else":
            if one.rest[:1] == ["if"]:  # written so in old files
                return self._condition(Statement(one.words[1:], block), scope, after=after)
            if after:
                self._block(block, scope)
            else:
                self.draft.lost(one.mark, "else", "what it is the opposite of could not be carried over")
            return False
        meant = who(one.words[1:], self.options.codes)
        if meant is None:
            why = "conditions are known here that tell an architecture, or iPXE"
            self.draft.lost(one.mark, one.text, why)
            return False
        if scope.network is not None or scope.in_pool or scope.tags:
            self.draft.note(one.mark, one.text, f"it was for {scope.words}, and is for all networks here")
        self._for(meant, block, one)
        return True

    def _for(self, meant: frozenset[str], block: list[Statement], one: Statement) -> None:
        """Take what holds for some architectures."""
        levels = self.levels
        if meant == {EVERYBODY}:
            places: tuple[Settings, ...] = (levels.everywhere,)
        else:
            places = tuple(levels.architectures.setdefault(name, {}) for name in sorted(meant - {EVERYBODY}))
        self._block(block, _Scope(places, words=one.text))

    def _statement(self, one: Statement, scope: _Scope) -> None:
        rest, mark = one.rest, one.mark
        match one.key:
            case "range":
                self._range(one, scope)
            case "option":
                self.options.say(scope.places, one)
            case key if key in _BOOT and rest:
                self._boot(_BOOT[key], rest[0], scope, mark)
            case key if key in _TIMES and rest:
                self._time(key, rest[0], scope, mark)
            case "authoritative":
                self.dhcp["authoritative"] = True
            case "ping-check" if rest[:1] in (["false"], ["off"], ["0"]):
                self.dhcp["probe"] = Scalar(mark, "false")
            case "lease-file-name" if rest:
                self.lease_file = rest[0]
            case "allow" | "deny" | "ignore":
                self._permission(one, scope)
            case key if key in dhcpd_needless.NEEDLESS or key.startswith(dhcpd_needless.OF_NAMES):
                if why := dhcpd_needless.NEEDLESS.get(key, ""):
                    self.draft.note(mark, one.text, why)
            case key:
                self.draft.lost(mark, one.text, dhcpd_needless.INSTEAD.get(key, "nothing here does that"))

    def _permission(self, one: Statement, scope: _Scope) -> None:
        match one.rest:
            case ["unknown-clients"] | ["unknown", "clients"]:
                if one.key != "allow":
                    self.draft.note(
                        one.mark, one.text, "such a subnet has no pool, so only listed machines get an answer"
                    )
            case ["members", "of", *_] if scope.in_pool:
                pass  # said by the pool
            case [("known-clients" | "bootp" | "booting" | "client-updates" | "dynamic"), *_] if one.key == "allow":
                pass
            case ["client-updates" | "duplicates" | "declines" | "leasequery"]:
                pass
            case _:
                self.draft.lost(one.mark, one.text, "there are no such rules here; an unlisted machine gets no answer "
                                "where a subnet has no pool")  # fmt: skip

    def _boot(self, key: str, value: str, scope: _Scope, mark: Mark) -> None:
        if key == "next_server" and words.address(value) is None:
            self.draft.lost(mark, f"next-server {value}", "only an address can stand here")
            return
        self.levels.file(scope.places, key, value, mark)

    def _time(self, key: str, value: str, scope: _Scope, mark: Mark) -> None:
        seconds = words.lease_s(value)
        if seconds is None:
            self.draft.lost(mark, f"{key} {value}", "it is no number of seconds")
        elif key == "default-lease-time":
            for settings in scope.places:
                settings["lease_s"] = Scalar(mark, seconds)
        elif scope.places == (self.levels.everywhere,):
            self.dhcp["longest_lease_s" if key == "max-lease-time" else "shortest_lease_s"] = Scalar(mark, seconds)
        else:
            self.draft.lost(mark, f"{key} {value}", "only `dhcp` can say it, for all networks")

    def _range(self, one: Statement, scope: _Scope) -> None:
        ends = [words.address(text) for text in one.rest if text != "dynamic-bootp"]
        if scope.network is None and ends and ends[0] is not None:  # a pool of a shared network
            network = self.subnets.network_of(ends[0])
        else:
            network = scope.network
        if not 1 <= len(ends) <= 2 or None in ends or network is None:
            self.draft.lost(one.mark, one.text, "it is not `range FIRST LAST` of a subnet")
            return
        first, last = ends[0], ends[-1]
        if first is None or last is None:
            return
        given = Range(
            min(first, last), max(first, last) if scope.strangers else None, "" if scope.strangers else "static"
        )
        self.subnets.take(Given(one.mark, network, given, POOL if scope.strangers else ""), self.draft)
