"""A stand-in for the Kubernetes API: as much of it as a controller and a joining machine need.

    python -m tests.support.kube_api --address 10.77.0.1 --port 6443 --folder DIR

writes DIR/admin.kubeconfig (0600), DIR/ca.crt, and DIR/controller.kubeconfig (0600) with no more rights than
deploy/kubernetes/rbac.yaml gives; prints `ready`, and then a line for each Node that joins. Its parts are in
`tests.support.kube_stand_in`.
"""

import argparse
import asyncio
from contextlib import suppress
from pathlib import Path

from tests.support.kube_stand_in.faults import Fault as Fault
from tests.support.kube_stand_in.faults import Refusal as Refusal
from tests.support.kube_stand_in.server import KubeApi as KubeApi

RULES = Path(__file__).parents[2] / "deploy/kubernetes/rbac.yaml"


async def serve(folder: Path, address: str, port: int) -> None:
    """Serve until cancelled, telling of each Node on standard output."""
    api = KubeApi(folder, address, port)
    api.on_node = lambda line: print(line, flush=True)
    await api.start()
    await api.apply(RULES.read_text())
    api.controller_kubeconfig()
    print("ready", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await api.stop()


def main() -> None:
    """Read the arguments and serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="A stand-in for the Kubernetes API.")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6443)
    parser.add_argument("--folder", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(arguments.folder, arguments.address, arguments.port))


if __name__ == "__main__":
    main()
