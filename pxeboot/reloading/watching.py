"""Whether a file has changed since it was read, and stands still: editors and ConfigMaps replace it, scripts write it.

What is looked at is the file that the path leads to now, through all links, so a ConfigMap's swap of `..data` is one
change, and so is an editor's rename. Who writes into the file itself is seen at work: nothing is read before one look
is as the one before.
"""

import os
from dataclasses import dataclass
from pathlib import Path

Facts = tuple[int, ...] | None
"""What tells one version of a file from another; None: there is no such file, or we may not see it."""


def facts(path: Path) -> Facts:
    """Return what tells this version of a file from others. Blocks on the disk."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@dataclass(frozen=True, slots=True)
class Source:
    """A farm's file, and which version of it was read."""

    path: Path
    """Absolute."""
    read: Facts

    @classmethod
    def of(cls, path: Path) -> "Source":
        """Return the file as it is now: make it before it is read."""
        absolute = Path(os.path.abspath(path))
        return cls(absolute, facts(absolute))


class Watched:
    """Says when a file is to be read again."""

    def __init__(self, read: Facts) -> None:
        """`read` is the version that was read last."""
        self._read = self._seen = read

    @property
    def moves(self) -> bool:
        """Whether it was seen to change, and not to stand still since."""
        return self._seen != self._read

    def look(self, now: Facts) -> bool:
        """Return whether a version that stands still is another one than the one read last."""
        still, self._seen = now == self._seen, now
        return still and now != self._read

    def was_read(self, version: Facts) -> None:
        """Take note that a version is being read, whatever comes of it."""
        self._read = self._seen = version
