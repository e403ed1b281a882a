"""A stand-in for the Kubernetes API: as much of it as a controller and a joining machine need.

    python -m tests.support.kube_api --address 10.77.0.1 --port 6443 --folder DIR

writes DIR/admin.kubeconfig (0600) and DIR/ca.crt, prints `ready`, and then a line for each Node that joins. It holds
Secrets of kube-system, ConfigMap kube-public/cluster-info and Nodes, in memory. Like a control plane's controllers it
signs cluster-info for every signing token (bootstrapsigner) and deletes expired ones (tokencleaner).

Two simplifications, both on the machines' side: a bootstrap token itself registers a Node, where a real one only asks
for the certificate that does; and a Node is Ready as soon as it is there.
"""

import argparse
import asyncio
import base64
import itertools
import secrets
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

from aiohttp import web

from pxeboot.controller.cluster_info import sign
from pxeboot.controller.token import FORM, IssuedToken, NotAToken, Token, read_secret
from tests.support.kube_credentials import admin_kubeconfig, make_ca, make_server_certificate, public_kubeconfig

Object = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Fault(Enum):
    """What the API does instead of answering; the requests still reach it, except when it is `DOWN`."""

    NONE = "none"
    DOWN = "down"
    UNAUTHORIZED = "401"
    FORBIDDEN_LIST = "403 for lists of Secrets"
    CONFLICT = "409 for what is created"
    TOO_MANY_REQUESTS = "429"
    INTERNAL = "500"
    HANG = "hang"
    NONSENSE = "an answer that is not JSON"


class Refusal(Exception):
    """An answer with an error code, as a Status object."""

    def __init__(self, code: int, reason: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.headers = headers or {}


class KubeApi:
    """The API server and its state. `folder` gets its certificates and the admin's kubeconfig."""

    def __init__(self, folder: Path, address: str = "127.0.0.1", port: int = 0) -> None:
        self.folder = folder
        self.address = address
        self.port = port
        self.fault = Fault.NONE
        self.signs = True
        """Whether there is a bootstrapsigner."""
        self.signer_delay_s = 0.0
        self.clock: Callable[[], float] = time.time
        """The tokencleaner's, and that of whoever checks a token's end."""
        self.secrets: dict[str, Object] = {}
        self.nodes: dict[str, Object] = {}
        self.requests: list[tuple[float, str, str]] = []
        """(monotonic time, method, path) of every request, refused ones too."""
        self.ever: list[IssuedToken] = []
        """Every token that was ever made here, for tests that look for traces of it."""
        self.on_node: Callable[[str], None] = lambda line: None
        """Told one line for each machine that joins."""
        self._admin = secrets.token_urlsafe(24)
        self._versions = itertools.count(1)
        self._signatures: dict[str, str] = {}
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._tasks: set[asyncio.Task[None]] = set()

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

    async def start(self) -> None:
        """Make the certificates if there are none, listen, and write the kubeconfig."""
        if not self.ca.exists():
            make_ca(self.folder)
            make_server_certificate(self.folder, sorted({self.address, "127.0.0.1"}))
        app = web.Application(middlewares=[self._answer])
        secret = "/api/v1/namespaces/kube-system/secrets"
        app.router.add_get(secret, self._list_secrets)
        app.router.add_post(secret, self._create_secret)
        app.router.add_get(secret + "/{name}", self._get_secret)
        app.router.add_put(secret + "/{name}", self._put_secret)
        app.router.add_patch(secret + "/{name}", self._patch_secret)
        app.router.add_delete(secret + "/{name}", self._delete_secret)
        app.router.add_get("/api/v1/namespaces/kube-public/configmaps/cluster-info", self._get_cluster_info)
        app.router.add_get("/api/v1/nodes", self._list_nodes)
        app.router.add_post("/api/v1/nodes", self._create_node)
        app.router.add_put("/api/v1/nodes/{name}", self._put_node)
        app.router.add_get("/api/v1/nodes/{name}", self._get_node)
        app.router.add_get("/readyz", self._ready)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await self._listen()
        admin_kubeconfig(self.kubeconfig, self.url, self.ca, self._admin)
        self._spawn(self._clean_tokens())

    async def stop(self) -> None:
        """Stop listening and end what runs."""
        for task in self._tasks:
            task.cancel()
        if self._runner:
            await self._runner.cleanup()

    async def inject(self, fault: Fault) -> None:
        """Behave that way from now on."""
        self.fault = fault
        if fault is Fault.DOWN and self._site:
            await self._site.stop()
            self._site = None
        elif fault is not Fault.DOWN and not self._site:
            await self._listen()

    async def _listen(self) -> None:
        if not self._runner:
            raise RuntimeError("start() comes first")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.folder / "server.crt", self.folder / "server.key")
        self._site = web.TCPSite(self._runner, self.address, self.port, ssl_context=context, reuse_address=True)
        await self._site.start()
        self.port = self._runner.addresses[0][1]

    def _published(self) -> str:
        """What cluster-info says."""
        return public_kubeconfig(self.url, self.ca)

    # What every request goes through.

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.requests.append((time.monotonic(), request.method, request.path))
        try:
            return await self._misbehave(request) or await handler(request)
        except Refusal as refusal:
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": str(refusal)}
            body = {**status, "reason": refusal.reason, "code": refusal.code}
            return web.json_response(body, status=refusal.code, headers=refusal.headers)

    async def _misbehave(self, request: web.Request) -> web.Response | None:
        match self.fault:
            case Fault.UNAUTHORIZED:
                raise Refusal(401, "Unauthorized", "Unauthorized")
            case Fault.FORBIDDEN_LIST if request.method == "GET" and request.path.endswith("/secrets"):
                raise Refusal(403, "Forbidden", "secrets is forbidden: cannot list")
            case Fault.CONFLICT if request.method == "POST":
                raise Refusal(409, "AlreadyExists", "it already exists")
            case Fault.TOO_MANY_REQUESTS:
                raise Refusal(429, "TooManyRequests", "too many requests", {"Retry-After": "3"})
            case Fault.INTERNAL:
                raise Refusal(500, "InternalError", "etcd is unwell")
            case Fault.HANG:
                await asyncio.sleep(3600)
            case Fault.NONSENSE:
                return web.Response(text="<html>a proxy's welcome page", content_type="text/html")
            case Fault.DOWN if request.transport:  # a connection from before
                request.transport.abort()
                return web.Response()
            case Fault.NONE | Fault.DOWN | Fault.FORBIDDEN_LIST | Fault.CONFLICT:
                pass
        return None

    def _bearer(self, request: web.Request) -> str:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return token if scheme == "Bearer" else ""

    def _admin_only(self, request: web.Request) -> None:
        if not secrets.compare_digest(self._bearer(request), self._admin):
            raise Refusal(401, "Unauthorized", "Unauthorized")

    def _bootstrapper(self, request: web.Request) -> Token:
        """The token that authenticates this request. Raises `Refusal`."""
        match = FORM.fullmatch(self._bearer(request))
        secret = self.secrets.get(f"bootstrap-token-{match[1]}") if match else None
        with suppress(NotAToken):
            issued = read_secret(secret["data"], 0.0) if secret else None
            valid = issued is not None and self.clock() < issued.expires
            if match and issued and valid and secrets.compare_digest(issued.token.secret, match[2]):
                return issued.token
        raise Refusal(401, "Unauthorized", "Unauthorized")

    async def _ready(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    # Secrets of kube-system.

    async def _list_secrets(self, request: web.Request) -> web.Response:
        self._admin_only(request)
        wanted = dict(term.split("=", 1) for term in request.query.get("labelSelector", "").split(",") if term)
        found = [s for s in self.secrets.values() if wanted.items() <= s["metadata"].get("labels", {}).items()]
        metadata = {"resourceVersion": str(next(self._versions))}
        return web.json_response({"kind": "SecretList", "apiVersion": "v1", "metadata": metadata, "items": found})

    async def _create_secret(self, request: web.Request) -> web.Response:
        self._admin_only(request)
        secret = await self._body(request)
        name = secret["metadata"]["name"]
        if name in self.secrets:
            raise Refusal(409, "AlreadyExists", f'secrets "{name}" already exists')
        return web.json_response(self._store(name, secret, created=self._timestamp()), status=201)

    async def _get_secret(self, request: web.Request) -> web.Response:
        self._admin_only(request)
        return web.json_response(self._secret(request))

    async def _put_secret(self, request: web.Request) -> web.Response:
        self._admin_only(request)
        return self._replace(self._secret(request), await self._body(request))

    async def _patch_secret(self, request: web.Request) -> web.Response:
        """A merge patch (RFC 7386)."""
        self._admin_only(request)
        return self._replace(self._secret(request), merge(self._secret(request), await self._body(request)))

    async def _delete_secret(self, request: web.Request) -> web.Response:
        self._admin_only(request)
        name = self._secret(request)["metadata"]["name"]
        del self.secrets[name]
        self._sign_soon()
        return web.json_response({"kind": "Status", "apiVersion": "v1", "status": "Success"})

    def _secret(self, request: web.Request) -> Object:
        name = request.match_info["name"]
        if name not in self.secrets:
            raise Refusal(404, "NotFound", f'secrets "{name}" not found')
        return self.secrets[name]

    def _replace(self, old: Object, new: Object) -> web.Response:
        version = new["metadata"].get("resourceVersion")
        if version not in (None, old["metadata"]["resourceVersion"]):
            raise Refusal(409, "Conflict", "the object has been modified")
        name, created = old["metadata"]["name"], old["metadata"]["creationTimestamp"]
        return web.json_response(self._store(name, new, created=created))

    def _store(self, name: str, secret: Object, created: str) -> Object:
        given = {
            key: base64.b64encode(v.encode()).decode() for key, v in (secret.pop("stringData", None) or {}).items()
        }
        stored = {"apiVersion": "v1", "kind": "Secret", **secret, "data": {**(secret.get("data") or {}), **given}}
        stored["metadata"] = {
            **secret["metadata"],
            **{"name": name, "namespace": "kube-system", "creationTimestamp": created},
            "resourceVersion": str(next(self._versions)),
        }
        self.secrets[name] = stored
        with suppress(NotAToken):
            self.ever.append(read_secret(stored["data"], self.clock()))
        self._sign_soon()
        return stored

    async def _body(self, request: web.Request) -> Object:
        try:
            body = await request.json()
            body["metadata"] = dict(body.get("metadata") or {})
        except (ValueError, TypeError, AttributeError):
            raise Refusal(400, "BadRequest", "the body is not an object") from None
        return dict(body)

    def _timestamp(self) -> str:
        return datetime.fromtimestamp(self.clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    # Cluster-info, its signer, and the cleaner of tokens.

    async def _get_cluster_info(self, request: web.Request) -> web.Response:
        signatures = {f"jws-kubeconfig-{i}": jws for i, jws in self._signatures.items()} if self.signs else {}
        data = {"kubeconfig": self._published(), **signatures}
        metadata = {"name": "cluster-info", "namespace": "kube-public", "resourceVersion": str(next(self._versions))}
        return web.json_response({"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata, "data": data})

    def _sign_soon(self) -> None:
        if self.signer_delay_s:
            self._spawn(self._sign_later())
        else:
            self._sign()

    async def _sign_later(self) -> None:
        await asyncio.sleep(self.signer_delay_s)
        self._sign()

    def _sign(self) -> None:
        self._signatures = {}
        for secret in self.secrets.values():
            with suppress(NotAToken):
                issued = read_secret(secret["data"], 0.0)
                if secret["data"].get("usage-bootstrap-signing") == base64.b64encode(b"true").decode():
                    self._signatures[issued.token.id] = sign(self._published().encode(), issued.token)

    async def _clean_tokens(self) -> None:
        while True:
            for name, secret in list(self.secrets.items()):
                with suppress(NotAToken):
                    if read_secret(secret["data"], 0.0).expires <= self.clock():
                        del self.secrets[name]
                        self._sign()
            await asyncio.sleep(0.2)

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Nodes.

    async def _list_nodes(self, request: web.Request) -> web.Response:
        self._admin_only(request)
        return web.json_response({"kind": "NodeList", "apiVersion": "v1", "items": list(self.nodes.values())})

    async def _get_node(self, request: web.Request) -> web.Response:
        self._admin_only(request)
        if request.match_info["name"] not in self.nodes:
            raise Refusal(404, "NotFound", "no such node")
        return web.json_response(self.nodes[request.match_info["name"]])

    async def _create_node(self, request: web.Request) -> web.Response:
        token = self._bootstrapper(request)
        node = await self._body(request)
        name = str(node["metadata"].get("name", ""))
        if name in self.nodes:
            raise Refusal(409, "AlreadyExists", f'nodes "{name}" already exists')
        return self._register(name, node, token, request, again=False)

    async def _put_node(self, request: web.Request) -> web.Response:
        """A machine that boots again takes its old Node, as a kubelet does."""
        token = self._bootstrapper(request)
        name = request.match_info["name"]
        if name not in self.nodes:
            raise Refusal(404, "NotFound", "no such node")
        return self._register(name, await self._body(request), token, request, again=True)

    def _register(self, name: str, node: Object, token: Token, request: web.Request, *, again: bool) -> web.Response:
        if not name:
            raise Refusal(422, "Invalid", "a node needs a name")
        node["metadata"] |= {"name": name, "resourceVersion": str(next(self._versions))}
        node["status"] = {"conditions": [{"type": "Ready", "status": "True"}]}
        self.nodes[name] = {"kind": "Node", "apiVersion": "v1", **node}
        labels = ",".join(f"{key}={value}" for key, value in node["metadata"].get("labels", {}).items())
        taints = ",".join(
            f"{t.get('key')}={t.get('value', '')}:{t.get('effect')}" for t in node.get("spec", {}).get("taints", [])
        )
        self.on_node(
            f"node {name!r} joined{' again' if again else ''} from {request.remote} with token {token.id}"
            f" labels={labels or '-'} taints={taints or '-'}"
        )
        return web.json_response(self.nodes[name], status=200 if again else 201)


def merge(old: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7386 section 2)."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


async def serve(folder: Path, address: str, port: int) -> None:
    """Serve until cancelled, telling of each Node on standard output."""
    api = KubeApi(folder, address, port)
    api.on_node = lambda line: print(line, flush=True)
    await api.start()
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
