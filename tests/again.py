"""pytest; and tests that failed once more, alone: python -m tests.again ARGUMENT...

A machine that others use stalls for seconds, and of two thousand tests with real clients one may lose its patience.
Few such tests, MOST at once, are run again with nothing beside them. What fails again has failed. What passes then is
named at the end of the log with what it said at first above it: it is to be mended, and to be waited for by nobody.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

MOST = 3
"""More than so many that fail have a reason in common, which is not the machine."""
FAILED = 1
"""pytest's exit code for tests that failed, and nothing else that went wrong."""
CACHE = Path(".build/again").absolute()


def run(*argv: str) -> int:
    """Run pytest and return its exit code."""
    return subprocess.run([sys.executable, "-m", "pytest", "-o", f"cache_dir={CACHE}", *argv], check=False).returncode


def main(argv: Sequence[str]) -> int:
    """Return the exit code of pytest with these arguments, or that of the second run of what failed."""
    shutil.rmtree(CACHE, ignore_errors=True)
    code = run(*argv)
    if code != FAILED:
        return code
    failed = sorted(json.loads((CACHE / "v/cache/lastfailed").read_text()))
    if len(failed) > MOST:
        return code
    print(f"\n== once more, alone: {len(failed)}", flush=True)
    code = run("-v", "-n", "0", *failed)
    if not code:
        print("== passed only when nothing ran beside them, to be mended:", *failed, sep="\n   ", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
