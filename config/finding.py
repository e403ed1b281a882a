"""What a check finds, and what it may take for granted. Pure."""

from collections.abc import Collection
from dataclasses import dataclass

from config.yamltree import Place


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not hold. `other` is the place that it conflicts with; `key`: the key is wrong."""

    place: Place
    message: str
    other: Place | None = None
    key: bool = False


@dataclass(frozen=True, slots=True)
class Names:
    """The names that may be referred to; None where they could not be read, and then anything may."""

    images: Collection[str] | None
    clusters: Collection[str] | None
    pools: Collection[str] | None
    tags: Collection[str] | None
    subnets_known: bool = True
    """False if a subnet could not be read: an address that lies in none may lie in that one."""
    lease_s_known: bool = True
    """False if `dhcp.lease_s` could not be read: what contradicts its default may well agree with what was meant."""
