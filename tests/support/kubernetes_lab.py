"""Machines of a lab that join real clusters: `tests.support.lab.Lab` with control planes instead of the stand-in."""

import base64
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.support.control_plane import ControlPlane
from tests.support.lab import IMAGES, Lab, farm
from tests.support.machine import BOOT_S, Machine
from tests.support.segment import Host, Segment, lacking

IMAGE = "kubernetes"
"""The node image with kubelet, kubeadm and containerd; make builds it."""
MEMORY_MIB = 3072
PATIENCE_S = 2 * BOOT_S
"""How long a machine may take from power-on to Ready, on a host that is busy."""
CONTROLLERS = (
    # A machine that was reset is back before its Node is found to be dead, as real machines are.
    "--node-monitor-grace-period=15m",
    # With a range of addresses for its pods, a kubelet says at once that it is ready, and not 10 s later.
    "--allocate-node-cidrs=true",
    "--cluster-cidr=10.244.0.0/16",
)
LTS = {
    # containerd's layers cannot lie on a root that is such layers itself.
    "FSTAB_01_CONTAINERD": "tmpfs /var/lib/containerd tmpfs mode=0711 0 0",
    "FSTAB_02_KUBELET": "tmpfs /var/lib/kubelet tmpfs mode=0750 0 0",
}
TOKENS = ("secrets", "-n", "kube-system", "--field-selector", "type=bootstrap.kubernetes.io/token", "-o", "json")
"""What kubectl calls the bootstrap tokens."""
SECOND_PLANE = "10.77.0.2/24"


def needs_what_machines_need() -> None:
    """Skip the test at a desk, and fail it in CI, where a machine could not become a Node. Ask before all else."""
    if os.geteuid() != 0:
        lacking("needs root, to make network namespaces")
    if shutil.which("qemu-system-x86_64") is None:
        lacking("needs qemu-system-x86_64 (package qemu-system-x86)")
    if not (IMAGES / IMAGE).exists():
        lacking("needs the node image with Kubernetes; make boot builds it")


def pool(name: str, cluster: str, *nodes: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return a pool whose machines join `cluster`."""
    return {"name": name, "image": IMAGE, "cluster": cluster, "nodes": list(nodes), **more}


class KubernetesLab:
    """A daemon, its controller and a control plane for each of `clusters`; they run while the context lasts."""

    lab: Lab

    def __init__(
        self,
        segment: Segment,
        folder: Path,
        pools: Sequence[Mapping[str, Any]],
        *,
        tags: Mapping[str, Any] | None = None,
        clusters: Sequence[str] = ("prod",),
    ) -> None:
        """Make the wires for it; nothing runs yet. `tags` are further ones; `clusters` are one or two."""
        self.segment = segment
        self.folder = folder
        self.pools = pools
        self.tags = dict(tags or {})
        self.planes: dict[str, ControlPlane] = {}
        for name in clusters:
            host: Host = segment.server if not self.planes else segment.host(address=SECOND_PLANE)
            (folder / name).mkdir()
            self.planes[name] = ControlPlane(folder / name, host, controllers=CONTROLLERS)
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        try:
            with ThreadPoolExecutor() as threads:
                starts = [(plane, threads.submit(plane.__enter__)) for plane in self.planes.values()]
            for plane, start in starts:
                if start.exception() is None:
                    self._undo.push(plane)
            for _, start in starts:
                start.result()
            self._kubeconfigs = {name: plane.controller_kubeconfig() for name, plane in self.planes.items()}
            self._before = {token for plane in self.planes.values() for token in _tokens(plane)}
            for plane in self.planes.values():
                self._follow_tokens(plane)
            self.lab = Lab(self.segment, self.folder, self.farm())
            self.lab.start_controller()
            self.lab.start_daemon()
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._undo.close()

    def farm(self) -> dict[str, Any]:
        """Return the configuration: `pools`, and a token for each boot."""
        made = farm(self.folder, self.pools)
        made["images"] = {IMAGE: {"path": str(IMAGES / IMAGE)}}
        made["clusters"] = {name: {"kubeconfig": str(path)} for name, path in self._kubeconfigs.items()}
        made["tags"]["all"]["lts"] = LTS
        made["tags"] |= self.tags
        return made

    def reconfigure(self, tags: Mapping[str, Any]) -> None:
        """Start the daemon again with other tags. The controller goes on."""
        self.tags |= tags
        self.lab.stop_daemon()
        self.lab.configuration.write_text(yaml.safe_dump(self.farm(), sort_keys=False))
        self.lab.start_daemon()

    def machine(self, name: str, mac: str) -> Machine:
        """Plug in a machine."""
        return Machine(self.segment, self.folder, name=name, macs=[mac], memory_mib=MEMORY_MIB)

    def node(self, name: str, cluster: str = "prod") -> dict[str, Any]:
        """Return a Node as the API has it; {} if there is none."""
        text = self.planes[cluster].kubectl("get", "node", name, "-o", "json", "--ignore-not-found")
        found: dict[str, Any] = json.loads(text or "{}")
        return found

    def live_tokens(self, cluster: str = "prod") -> dict[str, str]:
        """Return the tokens that are in a cluster and were not when it was made, id → secret."""
        return {id_: secret for id_, secret in _tokens(self.planes[cluster]).items() if id_ not in self._before}

    @property
    def tokens(self) -> dict[str, str]:
        """Every bootstrap token that has ever been in a cluster, however shortly, id → secret."""
        found: dict[str, str] = {}
        for plane in self.planes.values():
            found |= _secrets(_documents((plane.folder / "tokens.seen").read_text()))
        return {id_: secret for id_, secret in found.items() if id_ not in self._before}

    def _follow_tokens(self, plane: ControlPlane) -> None:
        """Have kubectl write down each token that comes, until the API server goes."""
        own = ("--kubeconfig", str(plane.kubeconfig), "--cache-dir", str(plane.folder / "cache"))
        with (plane.folder / "tokens.seen").open("w") as seen:
            process = self.segment.server.popen(
                str(plane.bin / "kubectl"), *own, "get", *TOKENS, "--watch", stdout=seen
            )
        self._undo.callback(process.wait)
        self._undo.callback(process.kill)

    def until_ready(self, machine: Machine, name: str, *, within_s: float = PATIENCE_S) -> None:
        """Wait until a machine that was just powered on is Ready, by its timeline.

        Raises `TimeoutError` with its story, as soon as it fails or is off.
        """
        deadline = time.monotonic() + within_s
        while True:
            stages = self.lab.stages(name)
            if "ready" in stages:
                break
            if "failed" in stages or not machine.running or time.monotonic() > deadline:
                raise TimeoutError(f"{name} is not Ready:\n{self.lab.story(name)}\n{self.said(machine)}")
            time.sleep(0.5)

    def said(self, machine: Machine) -> str:
        """Return the end of what everybody has said, for whoever looks for a fault."""
        parts = {name: self.lab.log(name) for name in ("serve", "controller")} | {"console": machine.console()}
        return "\n".join(f"--- {name}\n{text[-4000:]}" for name, text in parts.items())


def is_ready(node: Mapping[str, Any]) -> bool:
    """Return whether a Node says that it is Ready."""
    conditions = node.get("status", {}).get("conditions", ())
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _tokens(plane: ControlPlane) -> dict[str, str]:
    return _secrets(json.loads(plane.kubectl("get", *TOKENS))["items"])


def _secrets(items: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    data = [item.get("data", {}) for item in items]
    return {_text(each["token-id"]): _text(each["token-secret"]) for each in data}


def _documents(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON documents of a text, one after the other, up to one that is not whole yet."""
    decoder = json.JSONDecoder()
    at = 0
    while (begin := text.find("{", at)) >= 0:
        try:
            document, at = decoder.raw_decode(text, begin)
        except ValueError:
            return
        yield document


def _text(value: str) -> str:
    return base64.b64decode(value).decode()
