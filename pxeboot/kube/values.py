"""Objects of the API as values, each with no more of it than we need. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Request:
    """One request. What asks for it cannot change after it was made: `username`, `groups` and all of spec."""

    name: str
    uid: str
    created_s: float
    """Seconds since 1970 by the API server's clock; 0 if it does not say."""
    username: str
    """Who made it, as the API server authenticated them; so are the groups."""
    groups: tuple[str, ...]
    signer: str
    usages: tuple[str, ...]
    pem: bytes = field(repr=False)
    """The PEM of the PKCS#10 request; b"" if it is not even base64."""
    approved: bool = False
    denied: bool = False
    issued: bool = False
    """Whether there is a certificate."""

    @property
    def waits(self) -> bool:
        """Whether nobody has decided it."""
        return not (self.approved or self.denied)


@dataclass(frozen=True, slots=True)
class Node:
    """A Node. Two are equal if they are for us, whatever else changed about them."""

    name: str
    uid: str
    created_s: float
    """Seconds since 1970 by the API server's clock; 0 if it does not say."""
    ready: bool
    """Whether its condition Ready is True."""
    condition: str
    """What the condition Ready says: True, False, Unknown, or "" if there is none yet."""
    boot_id: str
    """The kernel's, another one after each boot; "" before the kubelet has told it."""
    unschedulable: bool
    """Whether it is cordoned."""
    address: str
    """Its InternalIP, or ""."""
    labels: Mapping[str, str]
    taints: tuple[tuple[str, str, str], ...]
    """(key, value, effect) of each."""
    resource_version: str = field(compare=False)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A kubelet's lease: `resource_version` is another after each beat. `renewed_s` is by the kubelet's clock."""

    resource_version: str
    renewed_s: float | None


@dataclass(frozen=True, slots=True)
class Lease:
    """A Lease object. Times are seconds since 1970 by the clock of whoever wrote them, so never to be relied on."""

    name: str
    holder: str = ""
    duration_s: int = 1
    """At least 1; the API demands it."""
    acquired_s: float | None = None
    renewed_s: float | None = None
    transitions: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    uid: str = ""
    resource_version: str = ""
    """Of the object as the API has it; "" for one to be made."""


def is_earlier(version: str, other: str) -> bool:
    """Whether one resourceVersion is known to be before another: both are numbers, as far as anybody has seen.

    An API never goes back but when a backup of its etcd is restored.

    >>> is_earlier("99", "100"), is_earlier("100", "99"), is_earlier("a", "b")
    (True, False, False)
    """
    return version.isdecimal() and other.isdecimal() and int(version) < int(other)
