"""Which version of its image each machine booted, as it is kept. Pure.

A machine that reads its root by NBD goes on with the version that it started with, whatever its image's name points
to meanwhile, and whether this server is restarted meanwhile or not. So that version is kept, as a *pin*: from when the
machine is told what to boot, until it boots again or has gone.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from pydantic import ValidationError

from config.exports import Writable

VERSION = 1


@dataclass(frozen=True, slots=True)
class Pin:
    """What one machine was told to boot."""

    machine: str
    """Its name."""
    image: str
    """The name of the image, as the farm's file has it."""
    image_id: str
    """The version of it: its sha256."""
    address: IPv4Address
    """The machine's, then."""
    since_s: float
    """Seconds since 1970."""
    writable: Writable | None = None
    """Its own disk, by the rules that held then; None if it only reads the image."""


def dump(pins: Iterable[Pin]) -> str:
    """Return the text that keeps `pins`: a line for each.

    >>> print(dump([Pin("m1", "node", "ab" * 32, IPv4Address("10.0.0.1"), 5.0)]), end="")
    {"version": 1}
    {"machine": "m1", "image": "node", "id": "abababababababababababababababababababababababababababababababab", \
"address": "10.0.0.1", "since_s": 5.0}
    """
    lines = [json.dumps({"version": VERSION})]
    for pin in pins:
        line: dict[str, object] = {
            "machine": pin.machine,
            "image": pin.image,
            "id": pin.image_id,
            "address": str(pin.address),
            "since_s": pin.since_s,
        }
        if pin.writable is not None:
            line["writable"] = pin.writable.model_dump()
        lines.append(json.dumps(line))
    return "\n".join(lines) + "\n"


def parse(text: str) -> tuple[dict[str, Pin], int]:
    """Return the pins that `dump` wrote, by machine, and how many lines are damaged, which are left out.

    To lose a pin costs one machine its place in the list of readers; to refuse them all would cost every machine.
    """
    pins: dict[str, Pin] = {}
    damaged = 0
    for number, line in enumerate(text.splitlines()):
        try:
            value = json.loads(line)
            if number == 0 and value["version"] == VERSION:
                continue
            pin = _pin(value)
        except (ValueError, KeyError, TypeError, RecursionError):
            damaged += 1
        else:
            pins[pin.machine] = pin
    return pins, damaged


def _pin(value: Mapping[str, object]) -> Pin:
    """Return the pin of a line. Raises `ValueError`, `KeyError` or `TypeError`."""
    machine, image, image_id, address = (value[key] for key in ("machine", "image", "id", "address"))
    since_s, writable = value["since_s"], value.get("writable")
    if not (isinstance(machine, str) and isinstance(image, str) and isinstance(image_id, str)):
        raise ValueError("a name that is no text")
    if isinstance(since_s, bool) or not isinstance(since_s, int | float):
        raise ValueError("a time that is no number")
    try:
        rules = None if writable is None else Writable.model_validate(writable)
    except ValidationError as error:
        raise ValueError("rules that are none") from error
    return Pin(machine, image, image_id, IPv4Address(str(address)), float(since_s), rules)
