"""Takes images out of a store, and never one that somebody reads.

A version is moved aside, so that nobody new finds it; then it is asked once more who reads it, and it is put back if
somebody does, and deleted if nobody does (`pxeboot.image.aside`).
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from config.durable import sync_folder
from pxeboot.image import aside
from pxeboot.image.store import BY_DIGEST, SUMS, ImageError, is_digest

SHORTEST = 6
"""So many digits of an image's id at least, for a person who names it by its beginning."""

Users = Callable[[str], Sequence[str]]
"""An image's id → who uses it, in words such as "m1 reads it by NBD". Raises `ImageError` if that is not known."""


class InUse(ImageError):
    """An image that cannot be removed, because somebody uses it."""

    def __init__(self, image_id: str, users: Sequence[str]) -> None:
        super().__init__(f"{image_id[:16]} stays: {', '.join(users)}")


@contextmanager
def alone(store: Path) -> Iterator[None]:
    """Be the only one who removes images from `store`; put in order what a killed one left. Raises `ImageError`."""
    if not (store / BY_DIGEST).is_dir():
        raise ImageError(f"no image is in {store}; `pxeboot image build NAME` makes one")
    try:
        with aside.alone(store / BY_DIGEST):
            aside.recover(store / BY_DIGEST)
            yield
    except aside.Busy:
        raise ImageError(f"another `pxeboot image` adds or removes images in {store}; try again later") from None


def names_of(store: Path) -> dict[str, list[str]]:
    """Return the names that point to each version, by its id."""
    names: dict[str, list[str]] = {}
    for link in sorted(store.iterdir()) if store.is_dir() else []:
        if link.is_symlink() and not link.name.startswith("."):
            names.setdefault(Path(os.path.realpath(link)).name, []).append(link.name)
    return names


def versions(store: Path) -> list[str]:
    """Return the ids of all versions, the newest first; also of such that are damaged."""
    found = [path for path in (store / BY_DIGEST).iterdir() if is_digest(path.name)]
    return [path.name for path in sorted(found, key=_made_s, reverse=True)]


def remove(store: Path, word: str, users: Users) -> list[str]:
    """Remove the name `word` and the version behind it, unless another name has it too; or the version `word`.

    `word` may be the beginning of a version's id. Returns what was removed, in words. Raises `InUse`, `ImageError`
    and `OSError`; nothing has changed then.
    """
    with alone(store):
        link = store / word
        if "/" not in word and not word.startswith(".") and link.is_symlink():
            return _remove_name(store, link, users)
        image_id = _version(store, word)
        if names := names_of(store).get(image_id):
            raise ImageError(f"{image_id[:16]} has the name {', '.join(names)}; remove that")
        remove_version(store, image_id, users)
        return [f"version {image_id[:16]}"]


def prune(store: Path, keep: int, users: Users) -> Iterator[tuple[str, InUse | None]]:
    """Remove all versions without a name but the `keep` newest of them.

    Yields each that is removed, and each that stays because somebody uses it, with who does. Raises `ImageError` and
    `OSError`.
    """
    with alone(store):
        named = names_of(store)
        for image_id in [image_id for image_id in versions(store) if image_id not in named][keep:]:
            try:
                remove_version(store, image_id, users)
            except InUse as error:
                yield image_id, error
            else:
                yield image_id, None


def remove_version(store: Path, image_id: str, users: Users) -> None:
    """Remove one version. Raises `InUse`, `ImageError` and `OSError`; it is there as before then."""
    if found := users(image_id):
        raise InUse(image_id, found)
    moved = aside.move(store / BY_DIGEST / image_id)
    try:
        if found := users(image_id):  # who came between the two
            raise InUse(image_id, found)
    except BaseException:
        aside.put_back(moved)
        raise
    aside.delete(moved)


def _remove_name(store: Path, link: Path, users: Users) -> list[str]:
    target = Path(os.path.realpath(link))
    others = [name for name in names_of(store).get(target.name, []) if name != link.name]
    removed = [f"name {link.name}"]
    is_version = target.parent == Path(os.path.realpath(store / BY_DIGEST)) and is_digest(target.name)
    if is_version and target.is_dir():
        if others:
            removed.append(f"not its version {target.name[:16]}, which is {', '.join(others)} too")
        else:
            remove_version(store, target.name, users)
            removed.append(f"version {target.name[:16]}")
    with suppress(FileNotFoundError):
        if Path(os.path.realpath(link)) == target:  # it was not given another version meanwhile
            link.unlink()
    sync_folder(store)
    return removed


def _version(store: Path, word: str) -> str:
    """Return the id that begins with `word`. Raises `ImageError`."""
    found = [image_id for image_id in versions(store) if image_id.startswith(word)] if len(word) >= SHORTEST else []
    if not found:
        raise ImageError(f"{store} has no image {word!r}; `pxeboot image list` shows what it has")
    if len(found) > 1:
        raise ImageError(f"{len(found)} images of {store} begin with {word}; write more of it")
    return found[0]


def _made_s(folder: Path) -> float:
    for path in (folder / SUMS, folder):
        with suppress(OSError):
            return path.stat().st_mtime
    return 0.0
