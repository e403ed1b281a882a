"""Another farm, with everything that is made of it before it is swapped in. Blocks: called in a thread."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import dhcp.plan
from config.load import load
from config.mistakes import ConfigErrors, Mistake
from config.model import Farm
from pxeboot.bootfiles.machine import Farmhouse
from pxeboot.reloading.beside import context_or_mistake
from pxeboot.reloading.fixed import kept
from pxeboot.reloading.reloader import Same


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the event loop only has to take."""

    farm: Farm
    plan: dhcp.plan.Plan
    house: Farmhouse
    needs_restart: tuple[str, ...]
    """What of the file does not count before a restart, a line for each setting."""
    https: ssl.SSLContext | None
    """For HTTP with TLS, where its files are others now."""
    nbds: ssl.SSLContext | None
    """The same for NBD."""


def prepare(path: Path, running: Farm, *, nbdkit: bool = False) -> Prepared | Same:
    """Return the farm of the file at `path`, to follow `running`. Raises `ConfigErrors` if it is wrong.

    `nbdkit` says whether a process of it runs.
    """
    farm, needs_restart = kept(running, load(path), nbdkit=nbdkit)
    if farm == running:
        return Same(needs_restart)
    if not farm.server.interfaces:
        raise ConfigErrors([Mistake(str(path), 1, 1, "server.interfaces is empty; name the interfaces to serve")])
    try:
        plan = dhcp.plan.plan(farm)
    except ValueError as error:
        raise ConfigErrors([Mistake(str(path), 1, 1, str(error))]) from None
    contexts: list[ssl.SSLContext | None] = []
    mistakes = []
    for section, settings, before in (
        ("http.tls", farm.http.tls, running.http.tls),
        ("nbd.tls", farm.nbd.tls, running.nbd.tls),
    ):
        found = context_or_mistake(path, settings, section) if settings is not None and settings != before else None
        if isinstance(found, Mistake):
            mistakes.append(found)
        else:
            contexts.append(found)
    if mistakes:
        raise ConfigErrors(mistakes)
    return Prepared(farm, plan, Farmhouse(farm), needs_restart, contexts[0], contexts[1])
