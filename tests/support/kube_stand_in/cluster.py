"""What the cluster holds, and what its controllers make of what is written."""

import asyncio
import base64
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from pxeboot.controller.token import NotAToken
from tests.support.kube_credentials import kubeconfig, public_kubeconfig
from tests.support.kube_stand_in import admission, background, rbac
from tests.support.kube_stand_in.identity import SERVICE_ACCOUNT_TOKEN, authenticated
from tests.support.kube_stand_in.resources import BY_KIND, CSRS, NODES, SECRETS, Object, Target
from tests.support.kube_stand_in.store import Store
from tests.support.kube_stand_in.token_secret import IssuedToken, read_secret


class Cluster:
    """The state, and the controllers. `address` and `port` are told to machines in cluster-info."""

    def __init__(self, folder: Path, address: str = "127.0.0.1", port: int = 0) -> None:
        self.folder = folder
        self.address = address
        self.port = port
        self.signs = True
        """Whether there is a bootstrapsigner."""
        self.signer_delay_s = 0.0
        self.issues = True
        """Whether approved requests for certificates are signed."""
        self.clock: Callable[[], float] = time.time
        """The tokencleaner's, and that of whoever checks a token's end."""
        self.store = Store()
        self.ever: list[IssuedToken] = []
        """Every token that was ever made here, for tests that look for traces of it."""
        self.on_node: Callable[[str], None] = lambda line: None
        """Told one line for each machine that joins."""
        self._certified_by: dict[str, str] = {}
        self._told: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        for made in rbac.bootstrap():
            resource = BY_KIND[made["apiVersion"], made["kind"]]
            self._make(Target(resource, made["metadata"].get("namespace", "")), made)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's credentials."""
        return self.folder / "admin.kubeconfig"

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://{self.address}:{self.port}"

    @property
    def ca(self) -> Path:
        """The CA's certificate."""
        return self.folder / "ca.crt"

    @property
    def secrets(self) -> dict[str, Object]:
        """The Secrets of kube-system by name, as they are now."""
        return {secret["metadata"]["name"]: secret for secret in self.store.all(SECRETS, "kube-system")}

    @property
    def nodes(self) -> dict[str, Object]:
        """The Nodes by name, as they are now."""
        return {node["metadata"]["name"]: node for node in self.store.all(NODES)}

    def controller_kubeconfig(self) -> Path:
        """Return credentials of service account pxeboot/pxeboot-controller, made if there are none."""
        path = self.folder / "controller.kubeconfig"
        name = "pxeboot-controller"
        if self.store.get(SECRETS, "pxeboot", f"{name}-token") is None:
            annotations = {"kubernetes.io/service-account.name": name}
            made = {"metadata": {"name": f"{name}-token", "annotations": annotations}, "type": SERVICE_ACCOUNT_TOKEN}
            self._make(Target(SECRETS, "pxeboot"), made)
        secret = self.store.get(SECRETS, "pxeboot", f"{name}-token") or {}
        secret = background.fill_service_account_token(self.store, secret, self.ca.read_bytes())
        kubeconfig(path, self.url, self.ca, base64.b64decode(secret["data"]["token"]).decode(), name)
        return path

    def _make(self, place: Target, body: Object) -> None:
        """Create an object, as the API server does at its start."""
        us = authenticated("system:apiserver", "system:masters")
        self.store.put(place.resource, admission.new(self.store, place, body, us, time.time()))

    def _begin(self) -> None:
        self._sign()
        self._spawn(self._clean_tokens())

    def _end(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _written(self, place: Target, made: Object | None, peer: str | None = None) -> Object:
        """Have the controllers look at what was written; return it as it is now."""
        match place.resource:
            case resource if resource == SECRETS:
                if made is not None:
                    made = background.fill_service_account_token(self.store, made, self.ca.read_bytes())
                    if made["type"] == "bootstrap.kubernetes.io/token":
                        with suppress(NotAToken):
                            self.ever.append(read_secret(made["data"], self.clock()))
                if place.namespace == "kube-system":
                    self._sign_soon()
            case resource if resource == CSRS and made is not None:
                made = background.approve_by_default(self.store, made, self.clock())
                if self.issues:
                    self._spawn(self._issue(made))
            case resource if resource == NODES and made is not None:
                made = background.untaint(self.store, made)
                self._tell(made, peer)
        return made or {}

    async def _issue(self, request: Object) -> None:
        name, spec = request["metadata"]["name"], request["spec"]
        await background.sign_request(self.store, name, self.folder, self.clock)
        signed = self.store.get(CSRS, "", name)
        if signed is not None and signed["status"].get("certificate"):
            self._certified_by[background.asked_name(signed)] = spec["username"].removeprefix("system:bootstrap:")

    def _tell(self, node: Object, peer: str | None) -> None:
        """One line for each time a Node becomes Ready with another boot of its machine."""
        name = node["metadata"]["name"]
        boot = (node.get("status") or {}).get("nodeInfo", {}).get("bootID", "") or node["metadata"]["uid"]
        if not background.is_ready(node) or self._told.get(name) == boot:
            return
        again = " again" if name in self._told else ""
        self._told[name] = boot
        labels = ",".join(f"{key}={value}" for key, value in node["metadata"].get("labels", {}).items())
        taints = ",".join(
            f"{t.get('key')}={t.get('value', '')}:{t.get('effect')}" for t in node["spec"].get("taints") or []
        )
        self.on_node(
            f"node {name!r} joined{again} from {peer} with token {self._certified_by.get(name, '?')}"
            f" labels={labels or '-'} taints={taints or '-'}"
        )

    def _sign_soon(self) -> None:
        if self.signer_delay_s:
            self._spawn(self._sign_later())
        else:
            self._sign()

    async def _sign_later(self) -> None:
        await asyncio.sleep(self.signer_delay_s)
        self._sign()

    def _sign(self) -> None:
        background.sign_cluster_info(self.store, public_kubeconfig(self.url, self.ca), signs=self.signs)

    async def _clean_tokens(self) -> None:
        while True:
            if background.clean_tokens(self.store, self.clock()):
                self._sign()
            await asyncio.sleep(0.2)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
