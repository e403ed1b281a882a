"""Serves a folder by NBD for three seconds, and says how late the event loop was meanwhile, as DHCP would feel it.

    python -m tests.support.nbd_lateness FOLDER

Prints the port, then the sorted delays in seconds, as JSON.
"""

import asyncio
import json
import sys
import time
from contextlib import suppress
from pathlib import Path

from nbd import transport
from tests.support.serve_nbd import SWITCH_S, Folder

STEP_S = 0.002


async def main(folder: Path) -> None:
    """Serve, and wake up again and again."""
    sys.setswitchinterval(SWITCH_S)
    sock = transport.open_socket("127.0.0.1", 0)
    server = asyncio.ensure_future(transport.serve(sock, Folder(folder), lambda event: None))
    print(json.dumps(sock.getsockname()[1]), flush=True)
    late: list[float] = []
    until = time.monotonic() + 3
    while time.monotonic() < until:
        due = time.monotonic() + STEP_S
        await asyncio.sleep(STEP_S)
        late.append(time.monotonic() - due)
    print(json.dumps(sorted(late)), flush=True)
    server.cancel()
    with suppress(asyncio.CancelledError):
        await server


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
