"""Keeps a program in the foreground that goes into the background by itself, and stops it with SIGTERM.

    python -m bench.foreground COMMAND ...

What the program leaves behind becomes a child of this process (PR_SET_CHILD_SUBREAPER), which ends with the last one.
"""

import ctypes
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


def stop(*_: object) -> None:
    """Tell all our children to end."""
    for task in Path("/proc/self/task").glob("*/children"):
        for child in task.read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGTERM)


def main() -> int:
    """Run the command; return its own exit code, once all that it left behind has ended, too."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot take in orphans")
    signal.signal(signal.SIGTERM, stop)
    code = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, check=False).returncode
    with suppress(ChildProcessError):
        while True:
            os.wait()
    return code


if __name__ == "__main__":
    sys.exit(main())
