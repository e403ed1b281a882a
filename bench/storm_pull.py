"""Downloads large files again and again, each on a connection of its own, and throws them away in the kernel.

    python -m bench.storm_pull SECONDS SOURCE=URLPATH[=FILE] ...

One download at a time for each argument, from the address SOURCE. With FILE, the file that the server reads, it is
dropped from the page cache before each download, and we look whether that worked. Prints one JSON object.
"""

import argparse
import asyncio
import gc
import json
import os
import sys
from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from bench.storm_http import Broken, Connection

SERVER = IPv4Address("10.28.0.1")
STILL_S = 20.0
_LOOKS = 256


@dataclass(slots=True)
class Pulled:
    """What was downloaded."""

    bytes_received: int = 0
    downloads: int = 0
    """Those that came to their end."""
    broken: int = 0
    told_to_wait: int = 0
    cached: list[float] = field(default_factory=list)
    """How much of a file was in the page cache before each download, 0 to 1."""

    def seen(self, count: int) -> None:
        """Count bytes that came."""
        self.bytes_received += count


def cached_share(fd: int) -> float:
    """Return how much of a file is in the page cache, by looking at some bytes that the kernel may not wait for.

    A look brings the page in that it is about, and those around: so this is done once, over the whole file. Raises
    `OSError` for a file system that cannot tell.
    """
    size, byte, there = os.fstat(fd).st_size, bytearray(1), 0
    for number in range(_LOOKS):
        try:
            os.preadv(fd, [byte], size * number // _LOOKS, os.RWF_NOWAIT)
            there += 1
        except BlockingIOError:
            continue
    return there / _LOOKS


def evict(file: Path) -> float:
    """Drop a file from the page cache; return how much of it stayed, 0 to 1; NaN where that cannot be told."""
    fd = os.open(file, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return cached_share(fd)
    except OSError:
        return float("nan")
    finally:
        os.close(fd)


async def pull(source: IPv4Address, path: str, file: Path | None, pulled: Pulled) -> None:
    """Download `path` for ever."""
    request = f"GET {path} HTTP/1.1\r\nHost: {SERVER}\r\nUser-Agent: Wget\r\nConnection: close\r\n\r\n".encode()
    while True:
        if file is not None:
            pulled.cached.append(await asyncio.to_thread(evict, file))
        try:
            with await Connection.open(source, SERVER, STILL_S) as connection:
                head = await connection.ask(request, STILL_S)
                if head.turn_s is not None:
                    pulled.told_to_wait += 1
                    await asyncio.sleep(head.turn_s)
                    continue
                if head.status != 200:
                    raise Broken(f"{head.status} for {path}")
                got = await connection.discard(head.length, STILL_S, seen=pulled.seen)
        except Broken:
            pulled.broken += 1
            await asyncio.sleep(0.5)
            continue
        pulled.downloads += got == head.length
        pulled.broken += got != head.length


async def run(seconds: float, what: list[tuple[IPv4Address, str, Path | None]]) -> Pulled:
    """Download for `seconds`."""
    pulled = Pulled()
    tasks = [asyncio.create_task(pull(source, path, file, pulled)) for source, path, file in what]
    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in tasks:
        task.cancel()
    for done in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(done, Exception):
            raise done
    return pulled


def main() -> int:
    """Download, and print what came."""
    parser = argparse.ArgumentParser(description="Downloads again and again.")
    parser.add_argument("seconds", type=float)
    parser.add_argument("what", nargs="+", metavar="SOURCE=URLPATH[=FILE]")
    options = parser.parse_args()
    what = []
    for text in options.what:
        source, path, *file = text.split("=")
        what.append((IPv4Address(source), path, Path(file[0]) if file else None))
    gc.freeze()
    print(json.dumps(asdict(asyncio.run(run(options.seconds, what)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
