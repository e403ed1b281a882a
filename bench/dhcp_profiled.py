"""Run `pxeboot` of the folder we are in, under a profiler: `python bench/dhcp_profiled.py FILE ARGUMENT ...`

It begins when it is told to by SIGUSR2, so that the start does not count. At the end FILE holds what `read` reads:
what the main thread spent its time in.
"""

import cProfile
import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

BEGIN = signal.SIGUSR2
_WAITING = "select.epoll"


@dataclass(frozen=True, slots=True)
class Function:
    """A function, how often it was called, and for how long, in seconds as the profiler sees them."""

    name: str
    calls: int
    own_s: float
    total_s: float
    """With what it called."""


def functions(profile: cProfile.Profile) -> list[Function]:
    """Return what was called, the waiting for sockets left out."""
    found = []
    for entry in profile.getstats():
        code = entry.code
        if isinstance(code, str):  # a built-in: "<method 'recvmsg' of '_socket.socket' objects>"
            name = code.strip("<>")
        else:
            name = f"{code.co_qualname}  {'/'.join(Path(code.co_filename).parts[-2:])}:{code.co_firstlineno}"
        if _WAITING not in name:
            found.append(Function(name, entry.callcount, entry.inlinetime, entry.totaltime))
    return found


def read(file: Path) -> list[Function]:
    """Return what a run left in its file."""
    return [Function(**function) for function in json.loads(file.read_text())]


def render(found: list[Function], exchanges: int, most: int) -> str:
    """Return the functions with most time of their own, as a table of what they cost for each exchange."""
    each = 1e6 / exchanges
    lines = [f"{'calls':>7} {'own µs':>8} {'with callees':>13}   for each of {exchanges:,}"]
    lines += [
        f"{one.calls / exchanges:7.1f} {one.own_s * each:8.1f} {one.total_s * each:13.1f}   {one.name}"
        for one in sorted(found, key=lambda one: one.own_s, reverse=True)[:most]
    ]
    whole = sum(one.own_s for one in found) * each
    return "\n".join([*lines, f"{'':7} {whole:8.1f} {'':13}   all functions together"])


def main() -> None:
    """Be `pxeboot`, and leave a profile."""
    sys.path[0] = os.getcwd()
    from pxeboot.cli import main as pxeboot

    file = Path(sys.argv.pop(1))
    profile = cProfile.Profile()
    signal.signal(BEGIN, lambda *_: profile.enable())
    try:
        pxeboot(prog_name="pxeboot")
    finally:
        profile.disable()
        file.write_text(json.dumps([asdict(function) for function in functions(profile)]))


if __name__ == "__main__":
    main()
