"""What the daemon and the controller say of shared leases: one JSON object on a line. Pure.

    GET  /v1/dhcp/leases/CLUSTER/events    lines, as long as the connection lasts:
             {"listing": true}             what follows is all that there is
             {"entry": {...}}              an address: in the list, or changed
             {"gone": [ADDRESS, VERSION]}  an address that nobody has any more
             {"synced": true}              the list is over; what follows are changes
             {"beat": null | "why not"}    every second: whether the API answers
    POST /v1/dhcp/leases/CLUSTER           [{"write": {...}, "replaces": VERSION} | {"remove": [ADDRESS, VERSION]}]
             → [{"done": {...} | null} | {"refused": {...} | null} | {"unknown": "why"}], in the same order

`entry`, `write`, `done` and `refused` are an `Entry`; null there: the API has none. An empty list asks whether the
API answers: 200, or 503 with {"error": why}.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from dhcp.leases import Lease, State


class NotUnderstood(ValueError):
    """What was said is none of this module's."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the API has of one address."""

    lease: Lease
    until: int
    """Nobody but `lease.client` may have the address before; seconds since 1970, or `NEVER`."""
    version: str = ""
    """Which state of which object it is: its resourceVersion, a dot, and its uid."""


@dataclass(frozen=True, slots=True)
class Write:
    """Make `entry` what the API has, in place of the version that it `replaces`; "" if there must be none."""

    entry: Entry
    replaces: str = ""

    @property
    def address(self) -> IPv4Address:
        """Which address it is about."""
        return self.entry.lease.address


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete what the API has, if it is this version."""

    address: IPv4Address
    version: str


@dataclass(frozen=True, slots=True)
class Done:
    """It is so. None: it was removed."""

    entry: Entry | None


@dataclass(frozen=True, slots=True)
class Refused:
    """It is not so, and this is what the API has."""

    current: Entry | None


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody knows whether it is so."""

    why: str


@dataclass(frozen=True, slots=True)
class Listing:
    """All entries follow."""


@dataclass(frozen=True, slots=True)
class Synced:
    """That were all."""


@dataclass(frozen=True, slots=True)
class Gone:
    """The API has nothing of the address any more."""

    address: IPv4Address
    version: str


@dataclass(frozen=True, slots=True)
class Beat:
    """The controller is alive. `trouble` says why the API does not answer."""

    trouble: str | None = None


Wish = Write | Remove
Outcome = Done | Refused | Unknown
News = Listing | Entry | Synced | Gone | Beat


def entry_json(entry: Entry) -> dict[str, object]:
    """Return an entry as JSON values."""
    lease = entry.lease
    return {
        "address": str(lease.address),
        "client": lease.client,
        "mac": lease.mac,
        "state": lease.state.value,
        "expires": lease.expires,
        "until": entry.until,
        "version": entry.version,
    }


def entry_of(said: object) -> Entry:
    """Read what `entry_json` made. Raises `NotUnderstood`."""
    try:
        values = _mapping(said)
        client, mac = str(values["client"]), str(values["mac"])
        if not is_name(client) or not is_name(mac):
            raise NotUnderstood("a client is one word")
        lease = Lease(IPv4Address(values["address"]), client, int(values["expires"]), State(values["state"]), mac)
        return Entry(lease, int(values["until"]), str(values["version"]))
    except NotUnderstood:
        raise
    except (KeyError, TypeError, ValueError):
        raise NotUnderstood("it is no entry") from None


def is_name(text: str) -> bool:
    """Return whether a journal can hold `text` as a client's name or MAC."""
    return text.isascii() and text.isprintable() and bool(text) and " " not in text


def dump_news(news: News) -> str:
    """Return the line that says it, without its end.

    >>> dump_news(Beat())
    '{"beat": null}'
    """
    match news:
        case Listing():
            return '{"listing": true}'
        case Synced():
            return '{"synced": true}'
        case Entry():
            return json.dumps({"entry": entry_json(news)})
        case Gone(address, version):
            return json.dumps({"gone": [str(address), version]})
        case Beat(trouble):
            return json.dumps({"beat": trouble})


def news_of(line: bytes | str) -> News | None:
    """Read a line of news; None for one that a newer controller says. Raises `NotUnderstood`."""
    said = _mapping(_json(line))
    try:
        if "entry" in said:
            return entry_of(said["entry"])
        if "gone" in said:
            address, version = said["gone"]
            return Gone(IPv4Address(address), str(version))
        if "beat" in said:
            return Beat(None if said["beat"] is None else str(said["beat"]))
    except NotUnderstood:
        raise
    except (TypeError, ValueError):
        raise NotUnderstood("it is no news") from None
    return Listing() if "listing" in said else Synced() if "synced" in said else None


def dump_wishes(wishes: "list[Wish] | tuple[Wish, ...]") -> str:
    """Return the body of a POST."""
    said: list[dict[str, object]] = []
    for wish in wishes:
        match wish:
            case Write(entry, replaces):
                said.append({"write": entry_json(entry), "replaces": replaces})
            case Remove(address, version):
                said.append({"remove": [str(address), version]})
    return json.dumps(said)


def wishes_of(body: bytes | str) -> list[Wish]:
    """Read the body of a POST. Raises `NotUnderstood`."""
    wishes: list[Wish] = []
    for each in _list(body):
        said = _mapping(each)
        try:
            if "write" in said:
                wishes.append(Write(entry_of(said["write"]), str(said["replaces"])))
            else:
                address, version = said["remove"]
                wishes.append(Remove(IPv4Address(address), str(version)))
        except NotUnderstood:
            raise
        except (KeyError, TypeError, ValueError):
            raise NotUnderstood("it is no wish") from None
    return wishes


def dump_outcomes(outcomes: "list[Outcome] | tuple[Outcome, ...]") -> str:
    """Return the body of the answer to a POST."""
    said: list[dict[str, object]] = []
    for outcome in outcomes:
        match outcome:
            case Done(entry):
                said.append({"done": None if entry is None else entry_json(entry)})
            case Refused(current):
                said.append({"refused": None if current is None else entry_json(current)})
            case Unknown(why):
                said.append({"unknown": why})
    return json.dumps(said)


def outcomes_of(body: bytes | str) -> list[Outcome]:
    """Read the body of the answer. Raises `NotUnderstood`."""
    outcomes: list[Outcome] = []
    for each in _list(body):
        said = _mapping(each)
        if "done" in said:
            outcomes.append(Done(None if said["done"] is None else entry_of(said["done"])))
        elif "refused" in said:
            outcomes.append(Refused(None if said["refused"] is None else entry_of(said["refused"])))
        else:
            outcomes.append(Unknown(str(said.get("unknown", ""))))
    return outcomes


def _json(text: bytes | str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise NotUnderstood("it is no JSON") from None


def _list(text: bytes | str) -> list[object]:
    said = _json(text)
    if not isinstance(said, list):
        raise NotUnderstood("it is no list")
    return said


def _mapping(said: object) -> Mapping[str, Any]:
    if not isinstance(said, dict):
        raise NotUnderstood("it is no JSON object")
    return said
