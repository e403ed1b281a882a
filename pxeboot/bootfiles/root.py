"""A folder whose files may be fetched, and nothing else of the disk.

Every name that comes from the network and means a file on disk passes through `Root.open`, whichever server it
came in by. There is no check of a path followed by an open of it: the path is walked one component at a time, each
opened relative to the one before and never through a link, so there is no moment at which a swap could lead out.
That is what openat2 promises with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS, which Python has no name for.
"""

import errno
import os
import stat
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

from config.content import OpenFile

MAX_NAME = 1024  # characters; far above any boot file's name
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DENIED = frozenset({errno.EACCES, errno.EPERM})
# There is no such file here: it does not exist, a component is a link or no folder, it is a socket, or a device that
# was swapped in, it was removed from a network file system as we looked, we may not.
_ABSENT = _DENIED | {
    errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.ENODEV, errno.ESTALE,
}  # fmt: skip
_TEMPORARY = ("~", ".tmp", ".temp", ".part", ".partial", ".filepart", ".swp", ".swo", ".dpkg-new", ".dpkg-tmp")


def components(name: str) -> tuple[str, ...] | None:
    """Return the parts of `name`, or None if no file that we serve can have it.

    Refused are empty parts (and so a leading, trailing or double slash), everything with a leading dot (`.`, `..`,
    hidden files), the temporary names of editors, of programs that copy and of our own downloads, backslashes (the
    servers have made slashes of those that were meant so), and characters that do not print (control characters,
    NUL, bytes that were no UTF-8).

    >>> components("grub/x86_64-efi/core.efi")
    ('grub', 'x86_64-efi', 'core.efi')
    >>> components("grub/../../etc/shadow")
    """
    if not name or len(name) > MAX_NAME or not name.isprintable() or "\\" in name:
        return None
    parts = tuple(name.split("/"))
    if any(not part or part.startswith(".") or _is_temporary(part) for part in parts):
        return None
    return parts


def _is_temporary(part: str) -> bool:
    return part.lower().endswith(_TEMPORARY) or part.startswith("#")


_TICK_NS = 100_000_000
"""Within this time of a change, in ns, another one may leave a file with the same times: the clock of a file system
goes on by ticks, of up to 10 ms."""


def etag_of(status: os.stat_result, now_ns: int) -> str:
    """Return a strong validator for a file on disk: device, inode, size and the times of its last changes, hashed.

    ctime is there beside mtime because `cp -p` and `rsync --inplace` put an old mtime on new bytes. A file that was
    changed just now, at `now_ns`, may change again and look the same, so its validator is one that nothing will ever
    have again (RFC 9110 section 8.8.1: strong, whenever the content changes).
    """
    facts = [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    if abs(now_ns - status.st_ctime_ns) < _TICK_NS:
        facts.append(now_ns)
    return blake2b(repr(facts).encode(), digest_size=16).hexdigest()


def not_there(folder: Path | None) -> str | None:
    """Return what a person is told of a folder to serve that is none; None if it is one, or none was asked for.

    It may come later: a disk that is mounted, a checkout. Until then there is nothing in it.
    """
    if folder is None or folder.is_dir():
        return None
    return f"{folder} {'is no folder' if folder.exists() else 'is not there'}; machines find nothing in it"


class Root:
    """The files below one folder.

    The folder itself is ours, so it may be reached through a link (a name that points to a version) and is looked
    up at each `open`. Nothing below it is trusted.
    """

    def __init__(
        self,
        folder: Path,
        denied: Callable[[str], None] = lambda _: None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Serve `folder`. `denied` hears of names that are there and that we may not read: a person wants to know."""
        self.folder = folder
        self._clock_ns = clock_ns
        self._denied = denied

    def open(self, name: str, *, etag: str | None = None, immutable: bool = False) -> OpenFile | None:
        """Return the regular file `name`, open for reading, or None if there is none that we serve.

        Links, folders, FIFOs, sockets, devices, unreadable, hidden and temporary files all are None: a peer
        cannot tell one from another, nor from a file that does not exist. `etag` replaces the validator made from
        the file's own facts, for content that is named by its digest. Blocks on the disk, so call it in a thread.

        Raises `OSError` for what is our trouble and not the name's: no descriptors left, an input/output error.
        """
        parts = components(name)
        if parts is None:
            return None
        try:
            fd = self._walk(parts)
        except OSError as error:
            if error.errno in _DENIED:
                self._denied(name)
            if error.errno in _ABSENT:
                return None
            raise
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):  # swapped since `_walk` looked
                os.close(fd)
                return None
        except OSError:
            os.close(fd)
            raise
        return OpenFile(
            name=name,
            fd=fd,
            size_bytes=status.st_size,
            etag=etag_of(status, self._clock_ns()) if etag is None else etag,
            modified_s=status.st_mtime,
            immutable=immutable,
            device=status.st_dev,
        )

    def _walk(self, parts: tuple[str, ...]) -> int:
        """Return a descriptor of the file at `parts`. Raises `OSError`, also for anything but a regular file."""
        here = os.open(self.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            *folders, last = (part.encode() for part in parts)  # UTF-8, whatever the locale says
            for part in folders:
                below = os.open(part, _FOLDER, dir_fd=here)
                os.close(here)
                here = below
            # Opening a device or a FIFO can have effects of its own, so look first. Whoever swaps one in after
            # the look gains nothing: the open does not wait, and the caller looks again at what was opened.
            if not stat.S_ISREG(os.stat(last, dir_fd=here, follow_symlinks=False).st_mode):
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            return os.open(last, _FILE, dir_fd=here)
        finally:
            os.close(here)
