"""ConfigMap cluster-info of a real control plane, written anew as a tool does: whole, and without its signatures."""

import base64
import json
from types import TracebackType
from typing import Self

import yaml

from tests.support.control_plane import ControlPlane

_WHERE = ("-n", "kube-public", "configmap/cluster-info", "-o", "json")


class ClusterInfo:
    """What the cluster says of itself. A context manager: when it ends, it says what it said before."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._before: str = json.loads(plane.kubectl("get", *_WHERE))["data"]["kubeconfig"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._write(self._before)

    def say(self, *, server: str | None = None, authorities: str | None = None) -> None:
        """Say another `server`, https://HOST:PORT, or other `authorities`, certificates in PEM; the rest as before."""
        config = yaml.safe_load(self._before)
        cluster = config["clusters"][0]["cluster"]
        if server is not None:
            cluster["server"] = server
        if authorities is not None:
            cluster["certificate-authority-data"] = base64.b64encode(authorities.encode()).decode()
        self._write(yaml.safe_dump(config))

    def _write(self, kubeconfig: str) -> None:
        whole = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "cluster-info", "namespace": "kube-public"},
            "data": {"kubeconfig": kubeconfig},
        }
        self._plane.kubectl("replace", "-f", "-", text_in=json.dumps(whole))
