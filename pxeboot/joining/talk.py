"""What the daemon and the controller say to each other: JSON over HTTP, on the controller's unix socket. Pure.

    PUT    /v1/boots/CLUSTER/NODE          BootBegun → {}; a machine was given its menu
    DELETE /v1/boots/CLUSTER/NODE/BOOT     {}; that boot is over: its machine was given a menu of another kind
    POST   /v1/boots/CLUSTER/NODE/token    TokenAsked → JoinGiven | 409, 503 Refused
    GET    /v1/events                      a line for each Told, as it happens, until the connection ends
    GET    /v1/tokens                      {"tokens": [TokenSeen, ...]}, no secrets
    DELETE /v1/tokens/CLUSTER/ID           {} | 404, 503 Refused
    GET    /v1/status                      {"clusters": {NAME: {...}}}

An unknown cluster is 404, a body that is none of these 400. What is given back for a machine is decided by the
controller alone; the daemon vouches for who asks.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Address
from math import isfinite
from typing import Any

from config.events import Stage
from config.model import Taint

BOOT_ID = re.compile("[0-9a-f]{16}")
SEED = re.compile("[0-9a-f]{64}")
TOKEN_ID = re.compile("[a-z0-9]{6}")


class NotUnderstood(ValueError):
    """What was said is none of this module's. The message never holds what was said."""


@dataclass(frozen=True, slots=True)
class BootBegun:
    """A machine was told what to boot. It ends what was granted to the boot before. Said again after a reconnect."""

    boot: str
    """16 hex digits, other ones for each boot; no secret."""
    address: IPv4Address
    began_s: float
    """Seconds since 1970."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Kubernetes labels that the configuration wants of its Node."""
    taints: tuple[Taint, ...] = ()
    token_id: str = ""
    """Said again: the token that this boot was given, if it was; what `JoinGiven` said."""
    expires_s: float = 0.0
    """Said again: when that token ends."""


@dataclass(frozen=True, slots=True)
class TokenAsked:
    """The machine of this boot asks for its join command. Asked again with the same seed, the token is the same."""

    boot: str
    seed: str = field(repr=False)
    """64 hex digits of random numbers that nobody else knows, from which the token is made."""


@dataclass(frozen=True, slots=True)
class JoinGiven:
    """The join command of one boot."""

    command: str = field(repr=False)
    """What the machine runs; it holds the token."""
    token_id: str
    expires_s: float
    """Seconds since 1970."""
    hosts: tuple[str, ...] = ()
    """Lines for its /etc/hosts."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why there is none: 409 for good, 503 for now."""

    error: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """Something happened in a cluster to a boot."""

    cluster: str
    node: str
    boot: str
    """"" if it is no boot's that we know of."""
    stage: Stage
    at_s: float
    """Seconds since 1970."""
    detail: str


@dataclass(frozen=True, slots=True)
class TokenSeen:
    """A token that the controller made and that has not gone."""

    cluster: str
    id: str
    node: str
    """"" for a shared one."""
    boot: str
    made_s: float
    expires_s: float
    state: str
    """A word or a few for people: waits for its machine, certificate approved ..."""


def dump(value: BootBegun | TokenAsked | JoinGiven | Refused | Told | TokenSeen) -> str:
    """Return the JSON of one of the values here, on one line.

    >>> dump(Refused("the API does not answer", 5.0))
    '{"error": "the API does not answer", "retry_after_s": 5.0}'
    """

    def plain(odd: object) -> object:
        return odd.model_dump() if isinstance(odd, Taint) else str(odd)

    return json.dumps(asdict(value), default=plain)


def boot_begun(text: str | bytes) -> BootBegun:
    """Read what `dump` wrote of one. Raises `NotUnderstood`."""
    said = _object(text)
    try:
        boot, labels = str(said["boot"]), said.get("labels", {})
        taints = tuple(Taint.model_validate(taint) for taint in said.get("taints", ()))
        if not BOOT_ID.fullmatch(boot) or not all(isinstance(part, str) for pair in labels.items() for part in pair):
            raise NotUnderstood("a boot is 16 hex digits, and labels are texts")
        token_id, expires_s = str(said.get("token_id", "")), float(said.get("expires_s", 0.0))
        if not isfinite(expires_s) or (token_id and not TOKEN_ID.fullmatch(token_id)):
            raise NotUnderstood("a token's id is six of a-z and 0-9, and its end a time")
        return BootBegun(
            boot, IPv4Address(said["address"]), float(said["began_s"]), labels, taints, token_id, expires_s
        )
    except NotUnderstood:
        raise
    except (KeyError, TypeError, ValueError, AttributeError):
        raise NotUnderstood("it is no boot that begins") from None


def token_asked(text: str | bytes) -> TokenAsked:
    """Read what `dump` wrote of one. Raises `NotUnderstood`."""
    said = _object(text)
    boot, seed = said.get("boot"), said.get("seed")
    if (
        not isinstance(boot, str)
        or not isinstance(seed, str)
        or not BOOT_ID.fullmatch(boot)
        or not SEED.fullmatch(seed)
    ):
        raise NotUnderstood("it is no request for a token")
    return TokenAsked(boot, seed)


def join_given(text: str | bytes) -> JoinGiven:
    """Read what `dump` wrote of one. Raises `NotUnderstood`."""
    said = _object(text)
    try:
        hosts = tuple(map(str, said.get("hosts", ())))
        return JoinGiven(str(said["command"]), str(said["token_id"]), float(said["expires_s"]), hosts)
    except (KeyError, TypeError, ValueError):
        raise NotUnderstood("it is no join command") from None


def refused(text: str | bytes) -> Refused:
    """Read what `dump` wrote of one. Raises `NotUnderstood`."""
    said = _object(text)
    try:
        after_s = said.get("retry_after_s")
        return Refused(str(said["error"]), None if after_s is None else float(after_s))
    except (KeyError, TypeError, ValueError):
        raise NotUnderstood("it is no refusal") from None


def told(text: str | bytes) -> Told:
    """Read what `dump` wrote of one. Raises `NotUnderstood`."""
    said = _object(text)
    try:
        cluster, node, boot = (str(said[key]) for key in ("cluster", "node", "boot"))
        return Told(cluster, node, boot, Stage(said["stage"]), float(said["at_s"]), str(said["detail"]))
    except (KeyError, TypeError, ValueError):
        raise NotUnderstood("it is nothing that happened") from None


def _object(text: str | bytes) -> dict[str, Any]:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        raise NotUnderstood("it is no JSON") from None
    if not isinstance(said, dict):
        raise NotUnderstood("it is no JSON object")
    return said
