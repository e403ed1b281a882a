"""The shared join commands of a farm: a keeper for each cluster that has one, put together from its parts."""

import asyncio
from collections.abc import Sequence
from itertools import combinations

from config.model import Cluster, Farm
from pxeboot.controller.engine import Terms
from pxeboot.controller.hosts import HostLines
from pxeboot.controller.keeper import Keeper
from pxeboot.controller.lts_file import FilePlace, LtsFile, MadeFile
from pxeboot.controller.lts_object import LtsObject
from pxeboot.controller.mirror import Mirror
from pxeboot.kube.api import Api
from pxeboot.kube.elector import DURATION_S, Elector, own_identity

LEASE = "pxeboot-controller"
"""Whoever holds this Lease, in the cluster's `namespace`, keeps what is pushed."""


class Conflict(ValueError):
    """Two clusters are told to write to the same section of the same file."""


def keepers(farm: Farm) -> list[Keeper]:
    """Return a keeper for every cluster of the farm with a shared token. Raises `Conflict`."""
    check(farm)
    return [keeper(name, cluster) for name, cluster in _shared(farm).items()]


def _shared(farm: Farm) -> dict[str, Cluster]:
    return {name: cluster for name, cluster in farm.clusters.items() if cluster.minted == "shared"}


def check(farm: Farm) -> None:
    """Raise `Conflict` when two clusters of the farm would write to the same place."""
    clusters = _shared(farm)
    files = {name: cluster.lts_conf.resolve() for name, cluster in clusters.items() if cluster.lts_conf}
    for (one, its), (other, their) in combinations(clusters.items(), 2):
        if files[one] != files[other]:
            continue
        if its.section == their.section:
            raise Conflict(f"clusters {one} and {other} both write to section [{its.section}] of {its.lts_conf}")
        if its.push or their.push:
            raise Conflict(
                f"clusters {one} and {other} share {its.lts_conf}, and one of them has `push`, which needs the whole"
                " file for its copy"
            )


def keeper(name: str, cluster: Cluster, terms: Terms | None = None, lead_s: int = DURATION_S) -> Keeper:
    """Return the keeper of one cluster with a shared token.

    `terms` are in place of what the configuration says. `lead_s` is how long the lead of a controller that has
    vanished stays unclaimed.
    """
    assert cluster.lts_conf is not None  # `config.clusters` sees to it
    api = Api(name, cluster.kubeconfig, cluster.api_server)
    file = LtsFile(cluster.lts_conf, cluster.section, cluster.join_key)
    made = MadeFile.beside(cluster.lts_conf, name)
    terms = terms or Terms(ttl_s=cluster.token_ttl_s, api_server=cluster.api_server)
    hosts = HostLines(cluster.api_address)
    if cluster.push is None:
        return Keeper(name, api, FilePlace(file), made, terms, hosts)
    mirror = Mirror(name, api, cluster.push, file)
    keeper = Keeper(
        name, api, LtsObject(api, cluster.push, file.place, mirror.original), made, terms, hosts, mirror=mirror
    )
    mirror.on_published = keeper.published
    identity = own_identity()
    keeper.led_by(
        Elector(api, cluster.namespace, LEASE, identity, on_change=lambda leads: keeper.wake(), duration_s=lead_s)
    )
    return keeper


async def run_once(all_keepers: Sequence[Keeper]) -> bool:
    """One round of every cluster; return whether each now has a fresh join command."""
    return all(await asyncio.gather(*(keeper.run_once() for keeper in all_keepers)))
