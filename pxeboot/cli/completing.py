"""What a shell can complete: names of machines, pools and images, from the running daemon or else the farm's file.

A shell waits for this at each TAB, so it imports neither the model nor rich, and a daemon that is slow counts as none.
"""

import http.client
import re
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from pxeboot.cli import asking

PATIENCE_S = 0.3
MOST = 500
"""More are no list for a person; whoever has that many types another letter."""
MOST_READ = 200_000
"""Characters. A longer file is not parsed, only searched: ten thousand machines would take most of a second."""
_CONTROL = re.compile(r"\bcontrol: *([^\s,}]+)")
_NAME = re.compile(r"\bname: *([^\s,}]+)")
_NOTHING: dict[str, list[str]] = {"machines": [], "pools": [], "images": []}
BOOTS = ("netboot", "local", "refuse", "once")


def names(context: click.Context) -> dict[str, list[str]]:
    """Return what there is: `machines`, `pools`, `images`. Nothing that goes wrong is said at a TAB."""
    path = context.params.get("configuration") or asking.farm_file(None)
    try:
        text = path.read_text("utf-8") if path is not None else ""
    except (OSError, UnicodeDecodeError):
        text = ""
    control = context.params.get("control")
    if control is None:
        said = _CONTROL.search(text)
        control = path.parent / said[1] if path is not None and said else asking.CONTROL
    try:
        status, answer = asking.ask(control, "/v1/names", patience_s=PATIENCE_S)
    except (OSError, http.client.HTTPException, ValueError):
        status, answer = 0, {}
    return {**_NOTHING, **answer} if status == 200 else of_text(text)


def of_text(text: str) -> dict[str, list[str]]:
    """Return the names in the text of a farm's file, wrong or right."""
    if len(text) > MOST_READ:
        found = [name.strip("\"'") for name in _NAME.findall(text)]
        return {**_NOTHING, "machines": found, "pools": found}
    from config import yamltree

    try:
        root = yamltree.read(text, lambda *_: None)
    except yamltree.NotReadable:
        return {**_NOTHING}
    farm: Any = yamltree.plain(root) if isinstance(root, yamltree.Mapping) else {}
    listed, images = farm.get("pools"), farm.get("images")
    found_pools = [pool for pool in listed if isinstance(pool, dict)] if isinstance(listed, list) else []
    nodes = [node for pool in found_pools if isinstance(pool.get("nodes"), list) for node in pool["nodes"]]
    return {
        "machines": [str(node["name"]) for node in nodes if isinstance(node, dict) and node.get("name")],
        "pools": [str(pool["name"]) for pool in found_pools if pool.get("name")],
        "images": [*images] if isinstance(images, dict) else [],
    }


def machines(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The machines whose names begin so."""
    return _items(names(context)["machines"], incomplete)


def pools(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The pools whose names begin so."""
    return _items(names(context)["pools"], incomplete)


def images(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The images of a store whose names begin so."""
    store = context.params.get("folder")
    try:
        found = [link.name for link in Path(store or "/srv/pxeboot/images").iterdir() if link.is_symlink()]
    except OSError:
        found = []
    return _items(sorted(found) or names(context)["images"], incomplete)


def words_of_node(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What `pxeboot node` takes: machines, boot=WHAT and image=NAME. bash has the = as a word of its own."""
    before = [str(word) for word in context.params.get("words") or ()]
    key, equals, start = incomplete.partition("=")
    if before[-1:] == ["="]:
        key, prefix, start = (before[-2:-1] or [""])[0], "", incomplete
    elif before[-1:] in (["boot"], ["image"]) and not incomplete:
        key, prefix, start = before[-1], "", ""
    elif equals:
        prefix = f"{key}="
    else:
        words = ["boot=", "image="] if incomplete[:1] in ("b", "i", "") else []
        return _items([*names(context)["machines"], *words], incomplete)
    values = BOOTS if key == "boot" else names(context)["images"] if key == "image" else ()
    return _items([prefix + value for value in values], prefix + start)


def _items(found: "list[str] | tuple[str, ...]", incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in found if name.startswith(incomplete)][:MOST]
