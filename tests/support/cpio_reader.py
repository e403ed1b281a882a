"""A reader of newc archives of its own, from the kernel's buffer-format.rst and nothing of ours."""

import stat
from dataclasses import dataclass


@dataclass(frozen=True)
class Unpacked:
    """One entry as the kernel would unpack it."""

    mode: int
    data: bytes
    inode: int
    links: int

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return stat.S_ISDIR(self.mode)

    @property
    def target(self) -> str | None:
        """Where a link leads."""
        return self.data.decode() if stat.S_ISLNK(self.mode) else None

    @property
    def permissions(self) -> int:
        """The mode without the type."""
        return stat.S_IMODE(self.mode)


def unpack(archive: bytes) -> dict[str, Unpacked]:
    """Return path → entry in the archive's order, refusing what the kernel would refuse."""
    out: dict[str, Unpacked] = {}
    at = 0
    while True:
        header = archive[at : at + 110]
        if header[:6] != b"070701":
            raise ValueError(f"no header at {at}: {header[:6]!r}")
        inode, mode, uid, gid, links, mtime, size, _, _, _, _, name_size, check = (
            int(header[6 + 8 * n : 14 + 8 * n], 16) for n in range(13)
        )
        if (uid, gid, mtime, check) != (0, 0, 0, 0):
            raise ValueError(f"owner, time or check at {at}")
        name = archive[at + 110 : at + 110 + name_size]
        if name[-1:] != b"\0" or b"\0" in name[:-1]:
            raise ValueError(f"name {name!r}")
        data_at = at + (110 + name_size + 3) // 4 * 4
        data = archive[data_at : data_at + size]
        at = data_at + (size + 3) // 4 * 4
        path = name[:-1].decode()
        if path == "TRAILER!!!":
            if len(archive) % 512 or archive[at:].strip(b"\0"):
                raise ValueError("something follows the trailer, or the padding is missing")
            return out
        parent = path.rpartition("/")[0]
        if path in out or (parent and not (parent in out and out[parent].is_folder)):
            raise ValueError(f"{path} is there twice, or before its folder")
        out[path] = Unpacked(mode, data, inode, links)
