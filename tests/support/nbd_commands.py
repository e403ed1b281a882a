"""Runs other people's NBD clients."""

import subprocess
from pathlib import Path


def run(*argv: str | Path, check: bool = True, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; it must succeed if `check`."""
    done = subprocess.run(
        [*map(str, argv)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
    )
    assert not (check and done.returncode), f"{argv}: {done.stdout}{done.stderr}"
    return done


LIBNBD_PYTHON = "/usr/bin/python3"


def has_libnbd() -> bool:
    """Whether the system's Python has libnbd."""
    return Path(LIBNBD_PYTHON).exists() and not run(LIBNBD_PYTHON, "-I", "-c", "import nbd", check=False).returncode


def libnbd(script: str, *arguments: str | Path) -> str:
    """Run a script with the system's Python, whose module `nbd` is libnbd's and not ours; return what it printed.

    `h` is a handle, not connected; `arguments` are in `args`.
    """
    before = "import errno, nbd, sys\nh = nbd.NBD()\nargs = sys.argv[1:]\n"
    return run(LIBNBD_PYTHON, "-I", "-c", before + script, *arguments).stdout
