"""Which settings are paths, and whether what stands there can be one. Pure."""

import re
from collections.abc import Iterator

from config.check import place_text
from config.finding import Finding
from config.sshkeys import is_private
from config.yamltree import Mapping, Node, Place, Scalar, find

PATHS: tuple[Place, ...] = (
    ("server", "state"),
    ("server", "control"),
    ("server", "controller"),
    ("server", "files"),
    ("http", "tls", "certificate"),
    ("http", "tls", "key"),
    ("http", "tls", "client_ca"),
    ("nbd", "tls", "certificate"),
    ("nbd", "tls", "key"),
    ("nbd", "tls", "client_ca"),
    ("web", "users"),
    ("web", "tls", "certificate"),
    ("web", "tls", "key"),
    ("web", "tls", "client_ca"),
    ("images", "*", "path"),
    ("clusters", "*", "kubeconfig"),
    ("clusters", "*", "lts_conf"),
    ("clusters", "*", "token_file"),
    ("lts_conf",),
    ("node", "files", "*", "from"),
)
"""Settings that are paths; a relative one begins at the configuration's folder. A test keeps this complete."""

_TOKEN = re.compile(r"[a-z0-9]{6}\.[a-z0-9]{16}|K10[0-9a-f]{64}::\S+")
"""The join tokens of Kubernetes, and of k3s."""
_URL = re.compile("[A-Za-z]+://")


def paths(root: Node) -> Iterator[Finding]:
    """What stands in place of a path, by mistake. It is not repeated: people write the key and not its file.

    A URL may hold a password.
    """
    for place, node in (found for pattern in PATHS for found in _scalars(root, pattern)):
        text = node.value if isinstance(node.value, str) else ""
        if not text.strip():
            yield Finding(place, f"{place_text(place)}: this path is empty; remove the line")
        elif is_private(text) or _TOKEN.fullmatch(text) or "\n" in text or "\0" in text:
            yield Finding(place, f"{place_text(place)}: this is no path; write that of a file in which it is")
        elif place[0] != "images" and _URL.match(text):
            yield Finding(place, f"{place_text(place)}: this is a URL; write the path of a file on this host")
        elif place[0] == "images" and _URL.match(text):
            remedy = "fetch it, and `pxeboot image add` makes an image of it"
            yield Finding(place, f"{place_text(place)}: this is a URL; {remedy}")


def _scalars(node: Node | None, pattern: Place, at: Place = ()) -> Iterator[tuple[Place, Scalar]]:
    """The values at places that are like `pattern`, in which * is any key."""
    if not pattern:
        if isinstance(node, Scalar) and isinstance(node.value, str):
            yield at, node
        return
    keys = [*node.items] if pattern[0] == "*" and isinstance(node, Mapping) else [pattern[0]]
    for key in keys:
        yield from _scalars(find(node, (key,)) if node else None, pattern[1:], (*at, key))
