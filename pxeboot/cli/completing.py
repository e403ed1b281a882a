"""What a shell can complete: names of machines, pools and images, from the running daemon or else the farm's file.

A shell waits for this at each TAB, so it imports neither the model nor rich, and a daemon that is slow counts as none.
"""

import http.client
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from pxeboot.cli import asking

PATIENCE_S = 0.3
MOST = 500
"""More are no list for a person; whoever has that many types another letter."""
BOOTS = ("netboot", "local", "refuse", "once")


def names(context: click.Context) -> dict[str, list[str]]:
    """Return what there is: `machines`, `pools`, `images`. Nothing that goes wrong is said at a TAB."""
    given = context.params.get("configuration")
    control = context.params.get("control")
    tree = of_file(given or asking.farm_file(None))
    told = asking.CONTROL if control is None else control
    if control is None and tree["control"]:
        told = Path(tree["control"][0])
    try:
        status, answer = asking.ask(told, "/v1/names", patience_s=PATIENCE_S)
    except (OSError, http.client.HTTPException, ValueError):
        return tree
    return tree | answer if status == 200 else tree


def of_file(path: Path | None) -> dict[str, list[str]]:
    """Return the names in a farm's file, wrong or right; none if there is no such file."""
    from config import yamltree

    found: dict[str, list[str]] = {"machines": [], "pools": [], "images": [], "control": []}
    try:
        root = yamltree.read(path.read_text("utf-8"), lambda *_: None) if path is not None else None
    except (OSError, UnicodeDecodeError, yamltree.NotReadable):
        return found
    farm: Any = yamltree.plain(root) if isinstance(root, yamltree.Mapping) else {}
    match farm:
        case {"server": {"control": str(control)}} if path is not None:
            found["control"] = [str(path.parent / control)]
        case _:
            pass
    if isinstance(images := farm.get("images"), dict):
        found["images"] = [*images]
    pools = farm.get("pools")
    for pool in pools if isinstance(pools, list) else []:
        match pool:
            case {"name": str(name), **rest}:
                found["pools"].append(name)
                nodes = rest.get("nodes")
                listed = nodes if isinstance(nodes, list) else []
                found["machines"] += [node["name"] for node in listed if isinstance(node, dict) and node.get("name")]
            case _:
                pass
    return found


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
