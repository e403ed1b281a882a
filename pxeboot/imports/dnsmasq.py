"""The configuration of dnsmasq → a farm. Pure.

Its DHCP and TFTP are taken over; of DNS there is none here, so that a dnsmasq that answers names goes on doing so.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from config.yamltree import Mark, Scalar
from pxeboot.imports import dnsmasq_needless, ranges, words
from pxeboot.imports.dnsmasq_hosts import host
from pxeboot.imports.dnsmasq_options import Options
from pxeboot.imports.dnsmasq_tags import Tags
from pxeboot.imports.dnsmasq_text import Line, Open, lines
from pxeboot.imports.found import Draft, Imported, NotReadable, Source, texts
from pxeboot.imports.levels import Levels
from pxeboot.imports.machines import Machines
from pxeboot.imports.subnets import Given, Subnets

IMAGE, POOL = "node", "machines"
LEASES = "/var/lib/misc/dnsmasq.leases"
_SETTERS = frozenset(
    ("dhcp-match", "dhcp-vendorclass", "dhcp-userclass", "dhcp-mac", "dhcp-circuitid", "dhcp-remoteid",
     "dhcp-subscrid", "dhcp-name-match", "tag-if")
)  # fmt: skip
_KNOWN_ONLY = ("tag:!known", "!known", "#known")


def read(sources: Sequence[Source], opened: Open) -> Imported:
    """Return the farm that files of dnsmasq describe. Raises `NotReadable`."""
    draft = Draft()
    found = lines(sources, draft, opened)
    if not any(line.key.startswith(("dhcp-", "pxe-", "tftp-", "enable-tftp")) for line in found):
        raise NotReadable(f"{sources[0].name}: nothing of DHCP or TFTP is in it; is it dnsmasq's configuration?")
    return _Reading(draft, found).farm()


class _Reading:
    """The settings, on their way to a farm."""

    def __init__(self, draft: Draft, found: list[Line]) -> None:
        self._draft, self._lines = draft, found
        self._levels, self._tags = Levels(draft), Tags(draft)
        self._machines, self._subnets = Machines(draft), Subnets()
        self._server: dict[str, Any] = {}
        self._dhcp: dict[str, Any] = {}
        self._tftp: dict[str, Any] = {}
        self._interfaces: list[Scalar] = []
        self._known_only = any(line.key == "dhcp-ignore" and line.value in _KNOWN_ONLY for line in found)
        self._ranges: list[tuple[Line, ranges.Range, IPv4Network]] = []

    def farm(self) -> Imported:
        """Return the farm. What sets tags comes before what they decide, wherever it stands."""
        for line in self._lines:
            if line.key in _SETTERS:
                self._tags.match(line)
            elif line.key == "dhcp-range":
                self._range(line)
            elif line.key == "dhcp-host":
                self._tags.machines |= {word[4:] for word in line.words() if word[:4] in ("set:", "net:")}
        self._place_ranges()
        options = Options(self._draft, self._levels, self._tags)
        for line in self._lines:
            if not options.take(line):
                self._line(line)
        self._defaults(options)
        return self._done()

    def _done(self) -> Imported:
        if self._interfaces:
            named = texts([str(one.value) for one in self._interfaces], self._interfaces[0].mark)
            self._server = {"interfaces": named, **self._server}
        else:
            self._draft.todo.append("server: {interfaces: [...]}: the network cards that machines boot from")
        for network, settings in self._levels.networks.items():
            self._subnets.options(network).update(settings)
        carried = dict.fromkeys(tag for node in self._machines.nodes for tag in _texts(node.get("tags")))
        tags = {tag: {"dhcp": self._levels.tags[tag]} if self._levels.tags.get(tag) else {} for tag in carried}
        todo = f"images: machines boot {IMAGE!r} once no `boot_file` is said; `pxeboot image build {IMAGE}` makes one"
        self._draft.todo.append(todo)
        levels = self._levels
        levels.architectures = {name: settings for name, settings in levels.architectures.items() if settings}
        return self._draft.done(
            {
                "server": self._server,
                "dhcp": levels.dhcp(self._dhcp, self._subnets.tree(self._draft)),
                "tftp": self._tftp,
                "images": {IMAGE: {"path": f"/srv/pxeboot/images/{IMAGE}"}},
                "pools": self._machines.pool(POOL, IMAGE),
                "tags": tags,
            }
        )

    def _defaults(self, options: Options) -> None:
        """What dnsmasq does without being told."""
        keys = {line.key for line in self._lines}
        given = [name for name, code in (("routers", 3), ("domain_name_servers", 6)) if code not in options.codes]
        if self._ranges and given:
            why = f"dnsmasq names its own address as {' and '.join(given)} where no dhcp-option names another"
            self._draft.todo.append(f"dhcp: {{{', '.join(f'{name}: [...]' for name in given)}}}: {why}")
        if "port" not in keys or any(line.key == "port" and line.value != "0" for line in self._lines):
            self._draft.todo.append("DNS: there is none here. Let dnsmasq go on with it, without its lines dhcp-range")
        file = next((line.value for line in self._lines if line.key == "dhcp-leasefile"), LEASES)
        if self._ranges:
            self._draft.todo.append(f"leases: `pxeboot leases import --from dnsmasq {file}`, before the first start")

    def _line(self, line: Line) -> None:
        draft, mark, value = self._draft, line.mark, line.value
        match line.key:
            case "dhcp-range" | "dhcp-leasefile" | "port" | "conf-file" | "conf-dir":
                pass
            case key if key in _SETTERS:
                pass
            case "interface":
                for word in line.words():
                    if word != "lo":
                        self._interfaces.append(Scalar(mark, word))
            case "except-interface" | "no-dhcp-interface" if value == "lo":
                pass
            case "dhcp-host":
                host(line, draft, self._machines, has_pools=self._has_pools())
            case "tftp-root":
                path, *only = line.words() or [""]
                if only or "files" in self._server:
                    draft.lost(mark, f"tftp-root={value}", "there is one folder for all machines here: server.files")
                else:
                    self._server["files"] = Scalar(mark, path)
            case "tftp-single-port":
                self._tftp["single_port"] = Scalar(mark, "true")
            case "no-ping":
                self._dhcp["probe"] = Scalar(mark, "false")
            case "domain" if value and value != "#":
                self._domain(line)
            case "dhcp-ignore" if value in _KNOWN_ONLY:
                draft.note(mark, f"dhcp-ignore={value}", "no subnet has a pool, so only listed machines get an answer")
            case key if key in dnsmasq_needless.NEEDLESS:
                if why := dnsmasq_needless.NEEDLESS[key]:
                    draft.note(mark, key, why)
            case key if key in dnsmasq_needless.OF_NAMES:
                pass  # the whole of DNS is one thing to do
            case key:
                why = dnsmasq_needless.INSTEAD.get(key, "nothing here does that")
                draft.lost(mark, f"{key}={value}" if value else key, why)

    def _has_pools(self) -> bool:
        return not self._known_only and any(found.last for _, found, _ in self._ranges)

    def _domain(self, line: Line) -> None:
        name, *where = line.words()
        places = [self._levels.everywhere]
        if where:
            first = words.address(where[0].partition("/")[0])
            network = self._subnets.network_of(first) if first else None
            if network is None:
                self._draft.lost(line.mark, f"domain={line.value}", "it is for a network that no dhcp-range says")
                return
            places = [self._levels.networks.setdefault(network, {})]
        for settings in places:
            settings.setdefault("domain_name", Scalar(line.mark, name))

    def _range(self, line: Line) -> None:
        text = line.value
        try:
            found = ranges.parse(text)
        except ValueError as error:
            self._draft.lost(line.mark, f"dhcp-range={text}", str(error))
            return
        network = words.network(found.first, found.netmask) if found.netmask else None
        if network is None and found.broadcast is not None:
            network = words.by_broadcast(found.first, found.broadcast)
        self._ranges.append((line, found, network or IPv4Network((int(found.first), 32))))

    def _place_ranges(self) -> None:
        """Give each range a network; one without a mask has its interface's, which no file says."""
        known = {network for _, _, network in self._ranges if network.prefixlen < 32}
        hosts = [ip for line in self._lines if line.key == "dhcp-host" for ip in _addresses(line.words())]
        for number, (line, found, network) in enumerate(self._ranges):
            if network.prefixlen == 32:
                network = next((one for one in sorted(known) if found.first in one), None) or self._guessed(
                    line.mark, found, hosts
                )
                known.add(network)
                self._ranges[number] = line, found, network
            for tag in found.sets:
                self._tags.networks.setdefault(tag, []).append(network)
            if self._by_port(line, found):
                self._subnets.take(Given(line.mark, network, None, ""), self._draft)
                continue
            if bare := [tag for tag in found.tags if tag not in self._tags.networks]:
                why = f"who may have an address of it is not decided by tags here ({', '.join(bare)})"
                self._draft.lost(line.mark, f"dhcp-range={line.value}", why)
                continue
            if self._known_only and found.mode != "proxy":
                found = ranges.Range(found.first, None, "static", found.netmask, found.broadcast, found.lease_s)
            stranger = POOL if found.last is not None or found.mode == "proxy" else ""
            self._subnets.take(Given(line.mark, network, found, stranger), self._draft)

    def _guessed(self, mark: Mark, found: ranges.Range, hosts: list[IPv4Address]) -> IPv4Network:
        ends = [found.first] if found.last is None else [found.first, found.last]
        network = words.around(ends)
        self._draft.lost(mark, "the network", f"its mask is that of the interface; it was taken for {network}: look")
        return network

    def _by_port(self, line: Line, found: ranges.Range) -> bool:
        """Whether a range is the one address of one port of a switch: then it is a machine."""
        tag = next((tag for tag in found.tags if tag in self._tags.circuits), None)
        if tag is None or found.last not in (None, found.first):
            return False
        _, identifier = self._tags.circuits.pop(tag)
        self._machines.add(line.mark, words.host_name(tag), found.first, known_by={"circuit_id": identifier})
        return True


def _addresses(parts: Sequence[str]) -> list[IPv4Address]:
    return [ip for ip in map(words.address, parts) if ip is not None]


def _texts(node: Any) -> list[str]:
    return [item.value for item in node.items] if node is not None else []
