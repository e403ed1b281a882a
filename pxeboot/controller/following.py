"""What the controller makes of a farm's file that changed: which of its clusters are others now.

Machines' labels and taints are none of its business here: the daemon tells them with each boot, and tells them again
when it has another farm.
"""

from dataclasses import dataclass
from pathlib import Path

from config.load import load
from config.mistakes import ConfigErrors, Mistake
from config.model import Farm
from pxeboot.controller import service
from pxeboot.reloading.reloader import Same
from pxeboot.reloading.settings import differences, until_a_restart


@dataclass(frozen=True, slots=True)
class Clusters:
    """Another farm, for the controller."""

    farm: Farm
    needs_restart: tuple[str, ...]


def prepare(path: Path, running: Farm) -> Clusters | Same:
    """Return the farm of the file at `path`, to follow `running`. Raises `ConfigErrors` if it is wrong.

    Its socket, its log, and the cluster that keeps the leases of pools stay as they are until a restart.
    """
    wanted = load(path)
    try:
        service.check(wanted)
    except service.Conflict as error:
        raise ConfigErrors([Mistake(str(path), 1, 1, str(error))]) from None
    changes = [
        *differences(running.server.controller, wanted.server.controller, ("server", "controller")),
        *differences(running.dhcp.shared, wanted.dhcp.shared, ("dhcp", "shared")),
        *differences(running.log, wanted.log, ("log",)),
    ]
    clusters, shared = dict(wanted.clusters), running.dhcp.shared
    if shared is not None:
        changes += differences(running.clusters[shared], wanted.clusters.get(shared), ("clusters", shared))
        clusters[shared] = running.clusters[shared]
    needs_restart = tuple(map(until_a_restart, changes))
    if (clusters, wanted.dhcp.subnets) == (running.clusters, running.dhcp.subnets):
        return Same(needs_restart)
    kept = {"clusters": clusters, "log": running.log, "dhcp": wanted.dhcp.model_copy(update={"shared": shared})}
    server = wanted.server.model_copy(update={"controller": running.server.controller})
    return Clusters(wanted.model_copy(update={**kept, "server": server}), needs_restart)
