"""Which machines get something else at their next boot, and what: two farms compared. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from config.model import Farm, Node
from pxeboot.reloading.boots import Facts, View
from pxeboot.reloading.masked import masked
from pxeboot.reloading.settings import Change, differences

OF_SERVER = ("server", "tftp", "http", "nbd", "web", "log", "machine_logs")
TOLD = ("server.address", "server.http_port", "server.nbd_port", "machine_logs.netconsole_port")
"""Of these, what machines are told."""
OF_DHCP = (
    *("shortest_lease_s", "longest_lease_s", "authoritative", "match_client_id", "probe", "offer_hold_s"),
    *("quarantine_s", "exclude_first_last", "limits", "shared", "quirks"),
)
"""Settings of DHCP that are about nobody in particular."""
OF_CLUSTER = ("kubeconfig", "push", "namespace", "token_ttl_s", "boot_token_ttl_s")
"""Settings of a cluster that only the controller heeds."""


@dataclass(frozen=True, slots=True)
class Group:
    """Machines of which the same changes."""

    machines: tuple[str, ...]
    changes: tuple[Change, ...]
    """What changes for all of them."""
    each: Mapping[str, tuple[Change, ...]]
    """What changes for each alone, such as its address, by its name."""


@dataclass(frozen=True, slots=True)
class Differences:
    """What another farm means for the machines, and for the servers."""

    changed: tuple[Group, ...]
    """Machines that are in both, most machines first. One may be in two groups: for what it shares with others, and
    for what is its own."""
    added: tuple[str, ...]
    gone: tuple[str, ...]
    unlisted: tuple[tuple[str, tuple[Change, ...]], ...]
    """The same for machines that are not listed, by their subnets."""
    settings: tuple[Change, ...]
    """Settings of the servers themselves, which no boot depends on."""

    @property
    def machines(self) -> int:
        """How many machines get something else, those that are new among them."""
        return len({name for group in self.changed for name in group.machines} | {*self.added})

    @property
    def any(self) -> bool:
        """Whether anything differs."""
        return bool(self.changed or self.added or self.gone or self.unlisted or self.settings)

    def as_json(self) -> dict[str, Any]:
        """Return them as JSON values."""
        return asdict(self)


def compare(old: Farm, new: Farm) -> Differences:
    """Return what changes from `old` to `new`. Raises `ValueError` for options that cannot be encoded."""
    before, after = View(masked(old)), View(masked(new))
    alike: dict[tuple[Change, ...], list[str]] = {}
    alone: dict[tuple[str, ...], dict[str, tuple[Change, ...]]] = {}
    shared: dict[tuple[int, int], tuple[Change, ...]] = {}
    added, seen = [], set()
    for name, node in after.nodes.items():
        was = _same(before, after, node)
        if was is None:
            added.append(name)
            continue
        seen.add(was.name)
        kinds = before.common(was), after.common(node)
        key = id(kinds[0]), id(kinds[1])
        if key not in shared:
            shared[key] = changes(*kinds)
        renamed = () if was.name == name else (Change("name", was.name, name),)
        own = (*renamed, *changes(before.own(was), after.own(node)))
        if shared[key]:
            alike.setdefault(shared[key], []).append(name)
        if own:
            alone.setdefault(tuple(change.what for change in own), {})[name] = own
    changed = [Group(tuple(names), common, {}) for common, names in alike.items()]
    changed += [Group(tuple(each), (), each) for each in alone.values()]
    return Differences(
        changed=tuple(sorted(changed, key=lambda group: -len(group.machines))),
        added=tuple(added),
        gone=tuple(name for name in before.nodes if name not in seen),
        unlisted=tuple(_unlisted(before, after)),
        settings=tuple(_settings(before.farm, after.farm)),
    )


def changes(old: Facts, new: Facts) -> tuple[Change, ...]:
    """Return what differs between two machines' facts."""
    if old is new:
        return ()
    return tuple(
        Change(what, old.get(what), new.get(what)) for what in {**old, **new} if old.get(what) != new.get(what)
    )


def _same(before: View, after: View, node: Node) -> Node | None:
    """Return the machine as it was: the one of its name, else one whose name is gone and that had one of its cards."""
    if (was := before.nodes.get(node.name)) is not None:
        return was
    names = (before.names.get(mac) for mac in node.macs)
    return next((before.nodes[name] for name in names if name is not None and name not in after.nodes), None)


def _unlisted(before: View, after: View) -> list[tuple[str, tuple[Change, ...]]]:
    old = {one.subnet: one.facts for one in before.unlisted()}
    new = {one.subnet: one.facts for one in after.unlisted()}
    found: list[tuple[str, tuple[Change, ...]]] = []
    for subnet in {**old, **new}:
        if subnet not in new:
            found.append((subnet, (Change("subnet", "served", "not served any more"),)))
        elif subnet not in old:
            found.append((subnet, (Change("subnet", "not served", "served"),)))
        elif differ := changes(old[subnet], new[subnet]):
            found.append((subnet, differ))
    return found


def _settings(old: Farm, new: Farm) -> list[Change]:
    found: list[Change] = []
    for name in OF_SERVER:
        found += differences(dict(old)[name], dict(new)[name], (name,))
    found = [change for change in found if change.what not in TOLD]
    for name in OF_DHCP:
        found += differences(dict(old.dhcp)[name], dict(new.dhcp)[name], ("dhcp", name))
    for name in {**old.clusters, **new.clusters}:
        one, other = old.clusters.get(name), new.clusters.get(name)
        if one is None or other is None:
            found.append(Change(f"clusters.{name}", "there" if one else None, "there" if other else None))
            continue
        for key in OF_CLUSTER:
            found += differences(dict(one)[key], dict(other)[key], ("clusters", name, key))
    return found
