"""A process that seeks the lead, so that a test can stop it: `python -m tests.support.elect KUBECONFIG NAME SECONDS`.

Writes a line at each change of it, and every 50 ms whether it leads at that moment: 0 or 1.
"""

import asyncio
import sys
from pathlib import Path

from pxeboot.kube.api import Api
from pxeboot.kube.elector import Elector


def say(text: str) -> None:
    """Write a line at once."""
    print(text, flush=True)


async def main(kubeconfig: Path, name: str, duration_s: int) -> None:
    """Seek the lead, and say how it goes, until killed."""
    api = Api("prod", kubeconfig)
    elector = Elector(api, "pxeboot", "pxeboot-controller", name, duration_s=duration_s)
    seeking = asyncio.create_task(elector.run())
    while not seeking.done():
        say(str(int(elector.leads)))
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
