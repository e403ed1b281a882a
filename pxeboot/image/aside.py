"""Versions of images that are being removed from a store: moved aside first, then deleted under a third name.

    STORE/by-sha256/.aside-ID       whole, and perhaps to be put back
    STORE/by-sha256/.gone-ID        being deleted

So under its own name a version is whole or not there, whenever we are killed: what is aside is put back by whoever
works on the store next, and what was being deleted is deleted.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config.durable import sync_folder

ASIDE = ".aside-"
GONE = ".gone-"


class Busy(Exception):
    """Somebody else removes images from this store, or adds one."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Be the only one who removes versions from `folder`, while nobody adds one.

    Raises `Busy` if somebody is at it, and `OSError`.
    """
    with _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
        yield


@contextmanager
def kept(folder: Path) -> Iterator[None]:
    """Have nobody remove versions from `folder`: one that was just added has no name yet. Waits for who does now.

    Raises `OSError`.
    """
    with _lock(folder, fcntl.LOCK_SH):
        yield


@contextmanager
def _lock(folder: Path, how: int) -> Iterator[None]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, how)
        except BlockingIOError:
            raise Busy from None
        yield
    finally:
        os.close(fd)


def recover(folder: Path) -> None:
    """Put back what is aside, and delete what was being deleted; call it `alone`. Raises `OSError`."""
    for path in folder.glob(f"{ASIDE}*"):
        put_back(path)
    for path in folder.glob(f"{GONE}*"):
        shutil.rmtree(path, ignore_errors=True)


def move(version: Path) -> Path:
    """Move a version aside; return where it is. Raises `OSError`."""
    path = version.with_name(ASIDE + version.name)
    version.rename(path)
    sync_folder(version.parent)
    return path


def put_back(path: Path) -> None:
    """Give what is aside its name again; a version that was added meanwhile is the same. Raises `OSError`."""
    version = path.with_name(path.name.removeprefix(ASIDE))
    try:
        path.rename(version)
    except OSError:
        if not version.is_dir():
            raise
        delete(path)
    sync_folder(version.parent)


def delete(path: Path) -> None:
    """Delete what is aside. Raises `OSError`."""
    gone = path.with_name(GONE + path.name.removeprefix(ASIDE))
    if gone.exists():
        shutil.rmtree(gone)
    path.rename(gone)
    sync_folder(path.parent)
    shutil.rmtree(gone)
