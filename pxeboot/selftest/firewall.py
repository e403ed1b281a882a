"""Whether this host's packet filter lets machines reach our ports: the rules of nftables, read as the kernel does.

`nft` prints those of iptables too, but for conditions that only iptables knows, which are "it depends" here. Only what
comes in is looked at: DHCP's answers leave as frames, which the chain `output` does not see.
"""

import json
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pxeboot.selftest.findings import Finding, Level
from pxeboot.selftest.ports import Wanted

TAKES_S = 1.0
"""After this time nobody waits for nft any more."""
MAY_NOT = "that takes CAP_NET_ADMIN; as root, `pxeboot check --here FARM` can"
MOST_BYTES = 4 << 20
"""Rules that take more, a cluster's with thousands of services, are not read: it would hold up a daemon."""
_DEPTH = 16
"""The kernel lets chains call each other so deep."""


class Fate(Enum):
    """What becomes of a packet in a chain."""

    ACCEPTED = "accepted"
    DROPPED = "dropped"
    RETURNED = "returned"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a packet, and where that is said; `maybe` if it depends on more than we know."""

    fate: Fate
    where: str = ""
    maybe: bool = False


@dataclass(frozen=True, slots=True)
class _Packet:
    """The first packet of a machine to one of our ports."""

    protocol: str
    port: int
    interface: str


def ruleset() -> list[Mapping[str, Any]] | str:
    """Return what nft lists, or why it cannot."""
    program = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin")
    if program is None:
        return "there is no nft here (package nftables)"
    try:
        done = subprocess.run(
            [program, "-j", "list", "ruleset"], capture_output=True, text=True, timeout=TAKES_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nft cannot be run: {error}"
    if done.returncode:
        return MAY_NOT
    if len(done.stdout) > MOST_BYTES:
        return f"its rules take {len(done.stdout) >> 20} MiB"
    try:
        listed = json.loads(done.stdout or "{}").get("nftables", [])
    except (ValueError, AttributeError):
        return "nft lists what cannot be read"
    return [item for item in listed if isinstance(item, dict)]


def look(
    wanted: Iterable[Wanted], interfaces: Sequence[str], listed: Sequence[Mapping[str, Any]] | str
) -> list[Finding]:
    """Return which ports machines cannot reach on `interfaces`, by the rules that `ruleset` returned."""
    if isinstance(listed, str):
        return [Finding("note", "firewall", f"this host's firewall cannot be looked at: {listed}")]
    blocked: dict[tuple[str, str, bool], list[Wanted]] = {}
    chains = _Chains(listed)
    for name in interfaces:
        for port in wanted:
            if not port.of_machines:
                continue
            verdict = chains.judge(_Packet(port.protocol.lower(), port.port, name))
            if verdict.fate is Fate.DROPPED:
                blocked.setdefault((name, verdict.where, verdict.maybe), []).append(port)
    found = []
    for (name, where, maybe), ports in blocked.items():
        listing = ", ".join(f"{port} ({port.what})" for port in ports)
        what = f"this host's firewall ({where}) {'may drop' if maybe else 'drops'} what machines send to {listing}"
        rule = f"nft insert rule {_where(where, chains)} iifname {name} {_matches(ports)} accept"
        level: Level = "warning" if maybe else "error"
        found.append(Finding(level, f"firewall on {name}", f"{what} on {name}", f"let them in, such as by `{rule}`"))
    return found


def _where(where: str, chains: "_Chains") -> str:
    chain = chains.entry_of(where)
    return " ".join(chain) if chain else "inet filter input"


def _matches(ports: Sequence[Wanted]) -> str:
    udp = sorted(port.port for port in ports if port.protocol == "UDP")
    tcp = sorted(port.port for port in ports if port.protocol == "TCP")
    if udp and tcp:
        both = ", ".join([*(f"udp . {port}" for port in udp), *(f"tcp . {port}" for port in tcp)])
        return f"meta l4proto . th dport {{ {both} }}"
    protocol, numbers = ("udp", udp) if udp else ("tcp", tcp)
    return f"{protocol} dport {{ {', '.join(map(str, numbers))} }}"


_NEVER, _DEPENDS = object(), object()


def _fact(left: Any, packet: _Packet) -> object:
    """Return what the left side of a condition is of a packet; None if unknown, `_NEVER` if it has no such thing."""
    match left:
        case {"payload": {"protocol": ("udp" | "tcp" | "th") as protocol, "field": "dport"}}:
            return packet.port if protocol in ("th", packet.protocol) else _NEVER
        case {"payload": {"protocol": ("udp" | "tcp" | "icmp" | "icmpv6" | "sctp" | "ip6") as protocol}}:
            return None if protocol == packet.protocol else _NEVER
        case {"payload": {"protocol": "ip", "field": "protocol"}} | {"meta": {"key": "l4proto"}}:
            return packet.protocol
        case {"meta": {"key": "iifname" | "iif"}}:
            return packet.interface
        case {"meta": {"key": "nfproto"}}:
            return "ipv4"
        case {"meta": {"key": "protocol"}}:
            return "ip"
        case {"ct": {"key": "state"}}:
            return "new"
        case {"concat": list() as parts}:
            facts = tuple(_fact(part, packet) for part in parts)
            return _NEVER if _NEVER in facts else None if None in facts else facts
        case _:
            return None


class _Chains:
    """The chains that a packet to this host goes through."""

    def __init__(self, listed: Sequence[Mapping[str, Any]]) -> None:
        self._rules: dict[tuple[str, str, str], list[Sequence[Any]]] = {}
        self._sets: dict[tuple[str, str, str], Any] = {}
        self._entries: list[tuple[int, str, tuple[str, str, str]]] = []
        self._known: dict[tuple[tuple[str, str, str], _Packet], Verdict] = {}
        for item in listed:
            for kind, value in item.items():
                if not isinstance(value, dict) or value.get("family") not in ("ip", "inet"):
                    continue
                key = (str(value.get("family")), str(value.get("table")), str(value.get("name")))
                if kind == "chain":
                    self._rules[key] = []
                    if value.get("hook") in ("prerouting", "input") and value.get("type") == "filter":
                        order = (value["hook"] == "input") * 100_000 + int(value.get("prio", 0))
                        self._entries.append((order, str(value.get("policy", "accept")), key))
                elif kind == "rule":
                    key = (key[0], key[1], str(value.get("chain")))
                    self._rules.setdefault(key, []).append(value.get("expr") or ())
                elif kind in ("set", "map"):
                    self._sets[key] = value.get("elem", ())
        self._entries.sort()

    def judge(self, packet: _Packet) -> Verdict:
        """Return what becomes of a packet: every chain of the hooks has to accept it."""
        unsure = Verdict(Fate.ACCEPTED)
        for _, policy, key in self._entries:
            verdict = self._walk(key, packet, 0, policy)
            if verdict.fate is Fate.DROPPED and not verdict.maybe:
                return verdict
            if verdict.fate is Fate.DROPPED:
                unsure = verdict
        return unsure

    def entry_of(self, where: str) -> tuple[str, str, str] | None:
        """Return the chain of a hook that a verdict's place begins in."""
        named = [key for _, _, key in self._entries if f"chain {' '.join(key)}" in where]
        tables = [key for _, _, key in self._entries if f"chain {key[0]} {key[1]} " in where]
        return next(iter([*named, *tables]), None)

    def _called(self, key: tuple[str, str, str], packet: _Packet, depth: int) -> Verdict:
        """Return what becomes of a packet in a chain that others call; it is walked once."""
        if (key, packet) not in self._known:
            self._known[key, packet] = self._walk(key, packet, depth)
        return self._known[key, packet]

    def _walk(self, key: tuple[str, str, str], packet: _Packet, depth: int, policy: str = "") -> Verdict:
        """Return what becomes of a packet in a chain. What may happen to it and what surely does are two things."""
        accepts = drops = False
        first_drop = ""
        for expressions in self._rules.get(key, ()):
            place = f"a rule of chain {' '.join(key)}"
            applies: bool | None = True
            fate: Fate | None = None
            for told in expressions:
                expression = told
                if isinstance(told, dict) and "vmap" in told:
                    expression = self._mapped(key, told["vmap"], packet)
                    if expression is _DEPENDS:
                        applies, fate = None, Fate.ACCEPTED
                if not isinstance(expression, dict):
                    continue
                kind, value = next(iter(expression.items()), ("", None))
                match kind:
                    case "match":
                        holds = self._holds(key, value, packet)
                        applies = False if holds is False else None if holds is None else applies
                    case "accept":
                        fate = Fate.ACCEPTED
                    case "drop" | "reject":
                        fate = Fate.DROPPED
                    case "return":
                        fate = Fate.RETURNED
                    case "jump" | "goto" if depth < _DEPTH and applies is not False:
                        target = (key[0], key[1], str((value or {}).get("target")))
                        inner = self._called(target, packet, depth + 1)
                        ends = inner.fate is not Fate.RETURNED or kind == "goto"
                        fate = inner.fate if ends else None
                        place = inner.where or place
                        applies = None if inner.maybe and ends and applies else applies
                        if inner.maybe and not ends:
                            accepts = True
                    case "limit" | "xt" | "queue" | "fib" | "socket" | "synproxy":
                        applies = None
                    case _:
                        pass  # counter, log, comment, mangle and the like decide nothing
                if applies is False:
                    break
            if applies is False or fate is None:
                continue
            if applies:
                unsure = (accepts and fate is not Fate.ACCEPTED) or (drops and fate is Fate.ACCEPTED)
                if drops and fate is Fate.ACCEPTED:
                    return Verdict(Fate.DROPPED, first_drop, True)
                return Verdict(fate, place if fate is Fate.DROPPED else "", unsure)
            accepts |= fate is Fate.ACCEPTED
            if fate is Fate.DROPPED and not drops:
                drops, first_drop = True, place
        if policy == "drop":
            return Verdict(Fate.DROPPED, f"policy drop of chain {' '.join(key)}", accepts)
        return Verdict(Fate.DROPPED, first_drop, True) if drops else Verdict(Fate.RETURNED, "", accepts)

    def _holds(self, key: tuple[str, str, str], match: Any, packet: _Packet) -> bool | None:
        """Return whether a condition holds for a packet; None if it depends on more."""
        fact, operator = _fact(match.get("left"), packet), match.get("op")
        if fact is _NEVER:
            return False
        among = None if fact is None else self._among(key, fact, match.get("right"))
        if among is None or operator not in ("==", "!=", "in"):
            return None
        return not among if operator == "!=" else among

    def _mapped(self, key: tuple[str, str, str], vmap: Any, packet: _Packet) -> object:
        """Return the verdict that a map has for a packet: an expression, None if none, `_DEPENDS` if that depends."""
        fact = _fact(vmap.get("key"), packet)
        pairs = vmap.get("data")
        if isinstance(pairs, str):
            pairs = {"set": list(self._sets.get((key[0], key[1], pairs.removeprefix("@")), ()))}
        if fact is None or not isinstance(pairs, dict):
            return _DEPENDS
        for pair in pairs.get("set", ()):
            if isinstance(pair, list) and len(pair) == 2 and self._among(key, fact, pair[0]):
                return pair[1]
        return None

    def _among(self, key: tuple[str, str, str], fact: object, right: Any) -> bool | None:
        match right:
            case {"set": list() as members}:
                found = [self._among(key, fact, member) for member in members]
                return True if True in found else None if None in found else False
            case {"set": member}:
                return self._among(key, fact, member)
            case {"elem": {"val": member}}:
                return self._among(key, fact, member)
            case {"concat": list() as members}:
                if not isinstance(fact, tuple) or len(fact) != len(members):
                    return None
                pairs = [self._among(key, one, member) for one, member in zip(fact, members, strict=True)]
                return False if False in pairs else None if None in pairs else True
            case {"range": [int() as first, int() as last]}:
                return isinstance(fact, int) and first <= fact <= last
            case list():
                return self._among(key, fact, {"set": right})
            case str() if right.startswith("@"):
                return self._among(key, fact, {"set": list(self._sets.get((key[0], key[1], right[1:]), ()))})
            case str() if right.endswith("*") and isinstance(fact, str):
                return fact.startswith(right[:-1])
            case str() | int():
                return fact == right
            case _:
                return None
