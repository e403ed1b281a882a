"""What an export's name means, and who may have it how. Pure.

NAME            an image of the farm: the version that the name points to now
ID              the version of an image with this sha256
node/MACHINE    what this machine was told to boot, for itself alone
(empty)         `nbd.default`, or the only image there is
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

from config.exports import NbdTls
from config.model import Farm
from pxeboot.exports.pins import Pin

OF_NODE = "node/"
"""What the names of machines' own roots begin with."""

_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Named:
    """The current version of an image."""

    image: str


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an image."""

    image_id: str


@dataclass(frozen=True, slots=True)
class Own:
    """What the machine that asks booted."""

    pin: Pin


@dataclass(frozen=True, slots=True)
class Nothing:
    """There is no such export for whoever asks."""

    why: str
    """In words."""


Wanted = Named | Version | Own | Nothing


def wanted(name: str, farm: Farm, machine: str | None, pin: Pin | None) -> Wanted:
    """Return what the export `name` is for `machine` (None: nobody that we know), which booted `pin`.

    A machine does not learn what others boot: the name of another is as unknown as one that does not exist.
    """
    if name == "":
        name = farm.nbd.default or (next(iter(farm.images)) if len(farm.images) == 1 else "")
        if not name:
            return Nothing("none was named, and `nbd.default` names no image")
    if name.startswith(OF_NODE):
        whose = name.removeprefix(OF_NODE)
        if machine is None or whose != machine:
            return Nothing("it is for that machine alone")
        if pin is None:
            return Nothing("it was not told to boot from NBD since it was last seen; it has to boot again")
        return Own(pin)
    if name in farm.images:
        return Named(name)
    if _DIGEST.fullmatch(name):
        return Version(name)
    return Nothing("there is no such image")


def needs_tls(tls: NbdTls | None, names: Collection[str]) -> bool:
    """Return whether an image that has these names now may leave through TLS only.

    The same bytes under another name, which needs no TLS, are no secret. An old version has no name any more: it may
    have been one of those of `only`, so it counts as such.

    >>> needs_tls(NbdTls(certificate="c", key="k", mode="offered", only=("db",)), ["node"])
    False
    """
    if tls is None:
        return False
    if tls.mode == "required":
        return True
    return bool(tls.only) and all(name in tls.only for name in names)
