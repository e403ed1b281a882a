"""An error of the system, said plainly: which file, why not, and what right is missing."""

import errno
import os


def plainly(error: OSError, instead: str = "") -> str:
    """Return what is wrong, without the kernel's number. `instead` is what else one who lacks the right can do.

    >>> plainly(FileNotFoundError(errno.ENOENT, "No such file or directory", "/srv/x"))
    '/srv/x: no such file or directory'
    """
    why = error.strerror or str(error)
    if error.errno is not None and why == os.strerror(error.errno):  # a text of ours stays as it is
        why = f"{why[:1].lower()}{why[1:]}"
    text = f"{os.fsdecode(error.filename)}: {why}" if isinstance(error.filename, str | bytes) else why
    if error.errno in (errno.EACCES, errno.EPERM) and os.geteuid() != 0:
        text += f"; run it as root (sudo){', or ' if instead else ''}{instead}"
    return text
