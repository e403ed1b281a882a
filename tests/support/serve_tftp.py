"""A TFTP server for the tests: `python -m tests.support.serve_tftp FOLDER [ADDRESS [PORT [SETTING=VALUE ...]]]`.

It serves one folder to everybody and says `ready PORT` once it listens; port 0 is any. Settings are those of
`config.delivery.Tftp`, and `limits.` before a name makes it one of `tftp.transport.Limits`. Every file counts as a
boot program, so each finished transfer prints its event. `who` is made for whoever asks, and so is `made`, which is
as large as a node.cpio; what begins with `mnt/` is looked up in threads of its own, as the daemon does with static
files. On SIGTERM it prints its counters, and how many descriptors its transfers hold.
"""

import asyncio
import logging
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path

from config.content import Content, Made
from config.delivery import Tftp
from config.events import Event, Stage
from pxeboot.bootfiles.root import Root
from tftp.transport import Limits, Server, open_socket


async def main(folder: Path, address: str, port: int, settings: Tftp, limits: Limits) -> None:
    """Serve until SIGTERM."""
    root = Root(folder)
    mounted = ThreadPoolExecutor(2)

    async def lookup(name: str, peer: IPv4Address) -> Content | None:
        if name == "who":
            return Made(name, f"{peer}\n".encode(), etag="")
        if name == "made":
            return Made(name, b"x" * (512 * 1024), etag="")
        if name.startswith("mnt/"):
            return await asyncio.wrap_future(mounted.submit(root.open, name))
        return await asyncio.to_thread(root.open, name)

    def report(event: Event) -> None:
        print("event", event.peer, event.stage, event.detail, flush=True)

    sys.setswitchinterval(0.0005)  # as the daemon does
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    with open_socket(address, port=port) as sock:
        server = Server(sock, lookup, report, lambda name: Stage.LOADER, limits, settings)
        before = len(os.listdir("/proc/self/fd"))
        print(f"ready {sock.getsockname()[1]}", flush=True)
        await stop.wait()
        running = len(os.listdir("/proc/self/fd")) - before
        print("counters", *(f"{name}={count}" for name, count in sorted(server.counters.items())))
        print("descriptors", running, flush=True)
        server.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(message)s", stream=sys.stdout)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    arguments = sys.argv[1:]
    words = dict(word.split("=") for word in arguments[3:])
    limit_words = {name.removeprefix("limits."): int(value) for name, value in words.items() if "." in name}
    asyncio.run(
        main(
            Path(arguments[0]),
            arguments[1] if len(arguments) > 1 else "0.0.0.0",
            int(arguments[2]) if len(arguments) > 2 else 69,
            Tftp.model_validate({name: value for name, value in words.items() if "." not in name}),
            Limits(**{"per_source": 20, **limit_words}),
        )
    )
