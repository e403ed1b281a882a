"""What a running daemon knows, or left behind: leases and boot intents; and whether the images are there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.model import Farm
from dhcp.journal import JournalError, read
from dhcp.leases import Lease
from pxeboot import intents
from pxeboot.api.leases import lease_of
from pxeboot.image import store
from pxeboot.intent_store import FILE as INTENTS
from pxeboot.intents import Boot, Intent, Origin

LEASES = "leases"
"""Below the state folder."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the machines at run time."""

    now_s: float
    leases: Sequence[Lease]
    intents: Mapping[str, Intent]
    said: tuple[str, ...]
    """Where it is from, in words; and what could not be read."""


def from_daemon(leases: Mapping[str, Any], nodes: Mapping[str, Any]) -> Known:
    """Return what a daemon's answers to GET /v1/leases and /v1/nodes say. Raises `KeyError`, `ValueError`."""
    said = {str(node["name"]): intent_of(node) for node in nodes["nodes"] if node["origin"] != Origin.FARM}
    where = "leases and intents: the running daemon's"
    return Known(float(leases["now_s"]), [lease_of(lease) for lease in leases["leases"]], said, (where,))


def intent_of(node: Mapping[str, Any]) -> Intent:
    """Return the intent that a daemon tells of a machine. Raises `KeyError`, `ValueError`."""
    by, image, once = node.get("by", ""), node.get("image", ""), node.get("image_once", False)
    return Intent(Boot(node["boot"]), Origin(node["origin"]), node["since_s"], str(by), str(image), bool(once))


def from_files(state: Path, now_s: float) -> Known:
    """Return what is in the state folder; what cannot be read is told, and counts as nothing."""
    said = []
    leases: Sequence[Lease] = ()
    records: Mapping[str, Intent] = {}
    path = state / LEASES
    try:
        leases = read(path.read_bytes(), path).leases
        said.append(f"leases: no daemon runs here; {path}")
    except FileNotFoundError:
        said.append(f"leases: none; no daemon runs here, and there is no {path}")
    except (OSError, JournalError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        said.append(f"leases: unknown; no daemon runs here, and {path} cannot be read: {why}")
    path = state / INTENTS
    try:
        records = intents.parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        trouble = error.strerror if isinstance(error, OSError) else error
        said.append(f"intents: those of `pxeboot node` are unknown; {path} cannot be read: {trouble}")
    return Known(now_s, tuple(leases), records, tuple(said))


def images(farm: Farm) -> tuple[dict[str, str], list[str]]:
    """Return why images cannot be loaded, by name, and what is to be said of those that we may not look at."""
    broken, unseen = {}, []
    for name, image in farm.images.items():
        try:
            store.open_image(image.path)
        except store.ImageError as error:
            try:
                (image.path / store.SUMS).open("rb").close()
            except PermissionError:
                unseen.append(f"image {name!r} is taken to be there: {image.path} may not be read")
                continue
            except OSError:
                pass
            broken[name] = str(error)
    return broken, unseen
