"""Files that are either the old ones or the new ones, whatever happens in between."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def replace_file(path: Path, data: bytes, mode: int = 0o640) -> None:
    """Put `data` at `path`, whole: a reader, and a crash, see the old file or the new one.

    When this returns, the new file survives a power cut. Its permissions are `mode` exactly, whatever the umask
    says, and until the data is complete nobody but us can read it. Owner and group stay those of the file that is
    replaced, as far as we are allowed to give them (a group that we are not in needs root); a new file is ours. A
    symbolic link at `path` is replaced, not followed.

    Raises `OSError`; the old file is then still there and no temporary file is left behind. The one exception: if
    only the last step, the folder's fsync, fails, then the new file is in place but may not survive a power cut.
    """
    try:
        before = path.lstat()
    except FileNotFoundError:
        before = None
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            if before is not None:
                for owner, group in ((before.st_uid, -1), (-1, before.st_gid)):
                    with suppress(PermissionError):
                        os.fchown(fd, owner, group)
            os.fchmod(fd, mode)
            os.fsync(fd)
        os.rename(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have what was made, renamed or removed in `folder` survive a power cut. Raises `OSError`."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
