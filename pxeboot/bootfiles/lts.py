"""What one machine is given of the lts.conf files: the farm's, and its cluster's with the join command."""

import logging
from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from config.ltsconf import JOIN_EXPIRES_KEY, JOIN_FOLLOWED_KEY, LtsConf, LtsConfError
from config.model import Cluster, Farm
from pxeboot.bootfiles.machine import Machine
from pxeboot.seldom import Seldom

log = logging.getLogger(__name__)


def lts_of(farm: Farm, machine: Machine, now: datetime, seldom: Seldom) -> dict[str, str]:
    """Return the lts.conf keys of one machine: from its tags, the farm's lts.conf, and its cluster's; the last wins.

    A machine of a cluster is given the join command of that cluster's file alone, though the farm's lts.conf be
    another cluster's file, and though clusters share a file and differ in their sections. One that fetches a command
    of its own is given none here.
    """
    cluster = farm.clusters[machine.pool.cluster] if machine.pool.cluster else None
    own = cluster.lts_conf if cluster else None
    others = [] if cluster is None else [other for other in farm.clusters.values() if other != cluster]
    join_keys = {cluster.join_key for cluster in farm.clusters.values()}
    values = without_expired(machine.lts, join_keys, now, machine.name, seldom)
    for path in dict.fromkeys((farm.lts_conf, own)):
        if path is None:
            continue
        if path == own:
            values = {key: value for key, value in values.items() if key not in join_keys}
        foreign = [other for other in others if other.lts_conf == path]
        # An expiry vouches for what stands in the same file.
        values |= without_expired(resolve(path, machine, foreign, seldom), join_keys, now, machine.name, seldom)
    if cluster is not None and cluster.per_boot:
        values = {key: value for key, value in values.items() if key not in join_keys}
    return values


def resolve(path: Path, machine: Machine, foreign: Collection[Cluster], seldom: Seldom) -> dict[str, str]:
    """Return what an lts.conf file says for one machine; nothing if it is not there or broken, which is logged.

    `foreign` are the clusters that have their join commands in this file and are not the machine's own: what stands
    in their sections under their keys is not for it.
    """
    try:
        text = path.read_text(encoding="utf-8")
        conf = LtsConf.parse(text)
        values = conf.resolve(hostname=machine.name, ip=machine.ip, macs=machine.macs)
        for other in foreign:
            if other.join_key in values and values[other.join_key] == conf.get(other.section, other.join_key):
                del values[other.join_key]
        return values
    except FileNotFoundError:
        if seldom(machine.name, path, "missing"):
            log.warning("%s boots without %s: there is no such file (yet)", machine.name, path)
    except (OSError, UnicodeDecodeError, LtsConfError) as error:
        if seldom(machine.name, path, "broken"):
            log.error("%s boots without %s: %s", machine.name, path, error)
    return {}


def without_expired(
    values: dict[str, str], join_keys: Collection[str], now: datetime, name: str, seldom: Seldom
) -> dict[str, str]:
    """Return one file's `values` without a join command that is no longer good: an expired token is never served.

    It counts for the keys of all clusters: a machine of none may be given an lts.conf that a controller writes to.
    """
    expires = values.get(JOIN_EXPIRES_KEY)
    values = {key: value for key, value in values.items() if key not in (JOIN_EXPIRES_KEY, JOIN_FOLLOWED_KEY)}
    expiring = values.keys() & set(join_keys)
    if expires is None or not expiring:
        return values
    try:
        good = datetime.fromisoformat(expires) > now
    except (ValueError, TypeError):
        good = False
    if good:
        return values
    if seldom(name, "expired"):
        log.warning("%s boots without its join command: the token expired at %s; is the controller running?",
                    name, expires)  # fmt: skip
    return {key: value for key, value in values.items() if key not in expiring}
