"""newc archives, as the kernel unpacks them into an initramfs. Pure, and the same bytes for the same entries.

The format is described in the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
"""

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True, slots=True)
class Entry:
    """A file (`data`), or a link (`target`), at `path` relative to the root. Folders are made as needed."""

    path: str
    data: bytes = b""
    mode: int = 0o644
    target: str | None = None
    folder_mode: int = 0o755
    """The mode of folders that have to be made for it."""


def archive(entries: Iterable[Entry]) -> bytes:
    """Return an uncompressed archive of `entries`; of two with one path the later counts.

    Raises `ValueError` for a path that is absolute, empty, holds a NUL, or climbs out with "..", and for one that is
    a file and a folder.
    """
    by_path: dict[str, Entry] = {}
    folders: dict[str, int] = {}
    for entry in entries:
        parts = PurePosixPath(entry.path).parts
        if not parts or entry.path.startswith("/") or ".." in parts or "\0" in entry.path:
            raise ValueError(f"{entry.path!r} is not a path inside an archive")
        path = "/".join(parts)
        by_path[path] = entry
        for depth in range(1, len(parts)):
            folders.setdefault("/".join(parts[:depth]), entry.folder_mode if depth == len(parts) - 1 else 0o755)
    clash = by_path.keys() & folders.keys()
    if clash:
        raise ValueError(f"{min(clash)!r} is a file and a folder")
    out: list[bytes] = []
    for number, path in enumerate(sorted(folders), 1):
        out.append(_record(number, path, stat.S_IFDIR | folders[path], b"", nlink=2))
    for number, (path, entry) in enumerate(sorted(by_path.items()), len(folders) + 1):
        if entry.target is not None:
            out.append(_record(number, path, stat.S_IFLNK | 0o777, entry.target.encode()))
        else:
            out.append(_record(number, path, stat.S_IFREG | entry.mode, entry.data))
    out.append(_record(0, "TRAILER!!!", 0, b""))
    whole = b"".join(out)
    return whole + bytes(-len(whole) % 512)


def _record(inode: int, path: str, mode: int, data: bytes, nlink: int = 1) -> bytes:
    name = path.encode() + b"\0"
    # inode mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    fields = (inode, mode, 0, 0, nlink, 0, len(data), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return header + bytes(-len(header) % 4) + data + bytes(-len(data) % 4)
