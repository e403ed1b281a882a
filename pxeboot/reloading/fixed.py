"""What of a farm cannot change while it is served: those settings keep their values until a restart. Pure.

Sockets that have their port, the folder that is locked, processes that were told at their start: to change these
while machines boot would cut somebody off, and a restart takes a second.
"""

from config.model import Farm, Setting
from pxeboot.reloading.settings import differences, until_a_restart

FIXED = (
    ("server", "state"),
    ("server", "http_port"),
    ("server", "nbd_port"),
    ("server", "control"),
    ("server", "controller"),
    ("dhcp", "shared"),
    ("tftp", "single_port"),
    ("http", "tls", "port"),
    ("nbd", "nbdkit"),
    ("web", "listen"),
    ("web", "tls"),
    ("log",),
    ("machine_logs",),
)
"""Places in the farm's file. What stands below one is fixed with it."""

OPTIONAL = (("http", "tls"), ("nbd", "tls"))
"""Sections of which it is fixed whether they are there at all."""

Place = tuple[str, ...]


def kept(running: Farm, wanted: Farm, *, nbdkit: bool) -> tuple[Farm, tuple[str, ...]]:
    """Return `wanted` with what is fixed as it is in `running`, and a line for each setting that keeps its value.

    `nbdkit` says whether a process of it runs: it was told of its certificate, and of the images that it serves.
    """
    switched = [place for place in OPTIONAL if (_at(running, place) is None) != (_at(wanted, place) is None)]
    places: list[Place] = [*switched, *(place for place in FIXED if place[:-1] not in switched)]
    if nbdkit:
        places.append(("nbd", "tls"))
    lines: list[str] = []
    for place in places:
        old, new = _at(running, place), _at(wanted, place)
        if old != new:
            wanted = _with(wanted, place, old)
            lines += map(until_a_restart, differences(old, new, place))
    if not nbdkit:
        engines = {name: image.engine for name, image in running.images.items()}
        lines += [
            f"images.{name}.engine: nbdkit begins to run at a restart; pxeboot serves it until then"
            for name, image in wanted.images.items()
            if image.engine == "nbdkit" and engines.get(name) != "nbdkit"
        ]
    return wanted, tuple(lines)


def _at(farm: Farm, place: Place) -> object:
    """Return the value at a place; None also where what should hold it is not there."""
    value: object = farm
    for key in place:
        value = dict(value).get(key) if isinstance(value, Setting) else None
    return value


def _with(setting: Setting, place: Place, value: object) -> Farm:
    """Return a copy with another value at a place. What holds it has to be there, else nothing is changed."""
    inner = _changed(setting, place, value)
    assert isinstance(inner, Farm)
    return inner


def _changed(setting: object, place: Place, value: object) -> object:
    if not place:
        return value
    if not isinstance(setting, Setting):
        return setting
    inner = _changed(dict(setting)[place[0]], place[1:], value)
    return setting.model_copy(update={place[0]: inner})
