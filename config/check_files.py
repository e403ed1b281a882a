"""What must not lie in the folder whose files anybody may fetch. Pure: it compares paths, and looks at no disk."""

import posixpath
from collections.abc import Iterator
from pathlib import PurePath

from config.finding import Finding
from config.model import Farm
from config.yamltree import Place


def files(farm: Farm) -> Iterator[Finding]:
    """Yield each path in `farm` that lies below `server.files` and is not for everybody.

    A path of ours that is a link to somewhere below it is not seen.
    """
    for place, path, what in _private(farm):
        if path is not None:
            yield from _served(farm, path, what, place)


def configuration(farm: Farm, path: PurePath) -> Iterator[Finding]:
    """Yield it if the file of `farm` itself, at the absolute `path`, lies there: it holds hashes of passwords."""
    yield from _served(farm, path, "this file", None)


def _served(farm: Farm, path: PurePath, what: str, place: Place | None) -> Iterator[Finding]:
    served = farm.server.files
    if served is not None and _plain(path).is_relative_to(_plain(served)):
        text = f"server.files is {str(served)!r}, where any machine could fetch {what}: {path}"
        yield Finding(("server", "files"), text, place)


def _private(farm: Farm) -> Iterator[tuple[Place, PurePath | None, str]]:
    yield ("server", "state"), farm.server.state, "our state"
    yield ("lts_conf",), farm.lts_conf, "every machine's lts.conf"
    for name, cluster in farm.clusters.items():
        yield ("clusters", name, "lts_conf"), cluster.lts_conf, "a join command"
        yield ("clusters", name, "kubeconfig"), cluster.kubeconfig, "a cluster's credentials"
        yield ("clusters", name, "token_file"), cluster.token_file, "the secret of a join command"
    if farm.http.tls is not None:
        yield ("http", "tls", "key"), farm.http.tls.key, "the private key"
    if farm.nbd.tls is not None:
        yield ("nbd", "tls", "key"), farm.nbd.tls.key, "the private key"
    for name, file in farm.node.files.items():
        yield ("node", "files", name, "from"), file.from_, "a file that only our machines get"


def _plain(path: PurePath) -> PurePath:
    """Return `path` without `.` and `..`."""
    return PurePath(posixpath.normpath(path))
