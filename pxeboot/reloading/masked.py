"""A farm without its secrets, so that it can be shown and still be compared: each is its digest. Pure.

What is secret, or may be: the hash of root's password, join commands of one's own, what tags say of lts.conf, and
files that are written in the farm's file.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from config.model import Farm, Pool

WITHHELD = "withheld-"
"""What the digest of a secret begins with."""


def masked(farm: Farm) -> Farm:
    """Return `farm` with a digest in place of every secret. Masked twice is masked once."""
    node = farm.node
    files = {
        path: file if file.content is None else file.model_copy(update={"content": _digest(file.content)})
        for path, file in node.files.items()
    }
    secret: dict[str, object] = {"files": files} if files else {}
    if node.root_password_hash is not None:
        secret["root_password_hash"] = _digest(node.root_password_hash)
    tags = {
        name: tag.model_copy(update={"lts": {key: _digest(value) for key, value in tag.lts.items()}})
        for name, tag in farm.tags.items()
    }
    clusters = {
        name: cluster if cluster.command is None else cluster.model_copy(update={"command": _command(cluster.command)})
        for name, cluster in farm.clusters.items()
    }
    return farm.model_copy(update={"node": node.model_copy(update=secret), "tags": tags, "clusters": clusters})


def dump(farm: Farm) -> dict[str, object]:
    """Return a farm as JSON values, without secrets; `config.model.Farm` makes the masked farm of them.

    A machine at a time: one call for 10,000 would keep everybody else from the interpreter for a tenth of a second.
    """
    whole = _dumped(masked(farm).model_copy(update={"pools": ()}))
    return whole | {"pools": [_pool(pool) for pool in farm.pools]}


def _pool(pool: Pool) -> dict[str, object]:
    return _dumped(pool.model_copy(update={"nodes": ()})) | {"nodes": [_dumped(node) for node in pool.nodes]}


def _dumped(setting: Any) -> dict[str, object]:
    values: Mapping[str, object] = setting.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return dict(values)


def _digest(value: str) -> str:
    if value.startswith(WITHHELD):
        return value
    return WITHHELD + hashlib.sha256(value.encode()).hexdigest()[:16]


def _command(command: str) -> str:
    """Return the digest of a command, which is a command still: with its token, if it takes one."""
    if command.startswith(WITHHELD):
        return command
    return _digest(command) + (" {token}" if "{token}" in command else "")
