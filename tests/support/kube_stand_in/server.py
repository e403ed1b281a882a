"""The stand-in's HTTP: who asks, whether they may, what they want done."""

import asyncio
import json
import re
import secrets
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import yaml
from aiohttp import web

from tests.support.kube_credentials import admin_kubeconfig, make_ca, make_server_certificate
from tests.support.kube_stand_in import admission, fields, rbac, watching
from tests.support.kube_stand_in.cluster import Cluster
from tests.support.kube_stand_in.discovery import documents
from tests.support.kube_stand_in.faults import Fault, Refusal
from tests.support.kube_stand_in.identity import User, authenticated, who
from tests.support.kube_stand_in.resources import (
    ACCESS_REVIEWS,
    BY_KIND,
    CONFIG_MAPS,
    LEASES,
    NAMESPACES,
    SECRETS,
    Object,
    Target,
    target,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
APPLY = "application/apply-patch+yaml"


def named(request: web.Request, place: Target) -> Target:
    """Return whom a list or watch is about: of one object, by its name in the field selector, it is that one."""
    name = re.fullmatch("metadata.name==?([^,]+)", request.query.get("fieldSelector", ""))
    return replace(place, name=name[1]) if name and not place.name else place


class KubeApi(Cluster):
    """The API server and its state. `folder` gets its certificates and the admin's kubeconfig."""

    def __init__(self, folder: Path, address: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(folder, address, port)
        self.fault = Fault.NONE
        self.bookmark_s = 60.0
        self.requests: list[tuple[float, str, str]] = []
        """(monotonic time, method, path) of every request, refused ones too."""
        self.asked: list[tuple[str, str, str]] = []
        """(who, verb, path) of every request that was allowed: what a role must be enough for."""
        self._admin = secrets.token_urlsafe(24)
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None

    async def start(self) -> None:
        """Make the certificates if there are none, listen, and write the kubeconfig."""
        if not self.ca.exists():
            make_ca(self.folder)
            make_server_certificate(self.folder, sorted({self.address, "127.0.0.1"}))
        app = web.Application(middlewares=[self._answer])
        app.router.add_route("*", "/{path:.*}", self._dispatch)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await self._listen()
        admin_kubeconfig(self.kubeconfig, self.url, self.ca, self._admin)
        info = {"metadata": {"name": "cluster-info", "namespace": "kube-public"}, "data": {}}
        self._make(Target(CONFIG_MAPS, "kube-public"), info)
        self._begin()

    async def stop(self) -> None:
        """Stop listening and end what runs."""
        self._end()
        await self.cut_watches()
        if self._runner:
            await self._runner.cleanup()

    async def inject(self, fault: Fault) -> None:
        """Behave that way from now on."""
        self.fault = fault
        if fault is Fault.DOWN and self._site:
            await self.cut_watches()
            await self._site.stop()
            self._site = None
        elif fault is not Fault.DOWN and not self._site:
            await self._listen()

    async def cut_watches(self) -> None:
        """End the connection of every watch, in the middle of it."""
        for watcher in self.store.watchers:
            watcher.put_nowait(None)

    async def compact(self) -> None:
        """Forget what changed before now: a watch from an older version is answered 410."""
        self.store.compact()

    async def delete(self, path: str) -> None:
        """Delete an object behind everybody's back."""
        place = target(path)
        assert place is not None
        self.store.delete(place.resource, place.namespace, place.name)
        self._written(place, None)

    async def apply(self, text: str) -> None:
        """Create or replace the objects of a YAML text, as its administrator."""
        admin = authenticated("kubernetes-admin", "system:masters")
        for body in yaml.safe_load_all(text):
            if not body:
                continue
            resource = BY_KIND[body["apiVersion"], body["kind"]]
            namespace = body["metadata"].get("namespace", "default") if resource.namespaced else ""
            place = Target(resource, namespace, body["metadata"]["name"])
            self._apply(place, body, admin, "kubectl", force=True)

    async def _listen(self) -> None:
        if not self._runner:
            raise RuntimeError("start() comes first")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.folder / "server.crt", self.folder / "server.key")
        context.load_verify_locations(self.ca)
        context.verify_mode = ssl.CERT_OPTIONAL
        self._site = web.TCPSite(self._runner, self.address, self.port, ssl_context=context, reuse_address=True)
        await self._site.start()
        self.port = self._runner.addresses[0][1]

    # What every request goes through.

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.requests.append((time.monotonic(), request.method, request.path))
        try:
            answer = await self._misbehave(request) or await handler(request)
            if self.fault is Fault.LOST and _creates(request) and request.transport:
                request.transport.abort()
            return answer
        except Refusal as refusal:
            return web.json_response(refusal.status, status=refusal.code, headers=refusal.headers)

    async def _misbehave(self, request: web.Request) -> web.Response | None:
        match self.fault:
            case Fault.UNAUTHORIZED:
                raise Refusal(401, "Unauthorized", "Unauthorized")
            case Fault.FORBIDDEN_LIST if request.method == "GET" and request.path.endswith("/secrets"):
                raise Refusal(403, "Forbidden", "secrets is forbidden: cannot list")
            case Fault.CONFLICT if request.method == "POST":
                raise Refusal(409, "AlreadyExists", "it already exists")
            case Fault.TOO_MANY_CREATED if _creates(request):
                raise Refusal(429, "TooManyRequests", "too many requests", {"Retry-After": "3"})
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
            case Fault.NONE | Fault.DOWN | Fault.FORBIDDEN_LIST | Fault.CONFLICT | Fault.GONE:
                pass
            case Fault.TOO_MANY_CREATED | Fault.LOST:
                pass
        return None

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        if request.path in ("/readyz", "/healthz", "/livez"):
            return web.Response(text="ok")
        user = who(request, self.store, self._admin, self.clock())
        if request.method == "GET" and (document := documents(request.path)) is not None:
            return web.json_response(document)
        place = target(request.path)
        if place is None:
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        if place.resource == ACCESS_REVIEWS:
            return await self._review(request, user)
        verb = self._verb(request, place)
        self._authorize(user, verb, named(request, place))
        self.asked.append((user.name, verb, request.path))
        match verb:
            case "list":
                return watching.listed(self.store, request, place)
            case "watch":
                gone = self.fault is Fault.GONE
                return await watching.watch(self.store, request, place, bookmark_s=self.bookmark_s, gone=gone)
            case "get":
                return web.json_response(self._found(place))
            case "delete":
                return await self._delete(request, place)
            case _:
                return await self._write(request, place, verb, user)

    async def _write(self, request: web.Request, place: Target, verb: str, user: User) -> web.Response:
        body = await self._body(request)
        if request.query.get("dryRun") != "All":
            made, fresh = self._changed(request, place, verb, user, body)
            return web.json_response(self._written(place, made, request.remote), status=201 if fresh else 200)
        store, self.store = self.store, self.store.draft()
        try:
            made, fresh = self._changed(request, place, verb, user, body)
        finally:
            self.store = store
        return web.json_response(made, status=201 if fresh else 200)

    def _changed(
        self, request: web.Request, place: Target, verb: str, user: User, body: Object
    ) -> tuple[Object, bool]:
        """Carry out a write; return what is kept, and whether it is new. Raises `Refusal`."""
        manager = request.query.get("fieldManager") or request.headers.get("User-Agent", "unknown").split("/")[0]
        if verb == "create":
            return self._create(place, body, user, manager), True
        if request.content_type == APPLY and verb == "patch":
            if "fieldManager" not in request.query:
                raise Refusal(400, "BadRequest", "PatchOptions: fieldManager: Required value for apply patch")
            fresh = self.store.get(place.resource, place.namespace, place.name) is None
            force = request.query.get("force") in ("true", "1")
            return self._apply(place, body, user, manager, force=force), fresh
        if (
            verb == "update"
            and place.resource == LEASES
            and self.store.get(LEASES, place.namespace, place.name) is None
        ):
            return self._made_by_replacing(place, body, user, manager), True
        old = self._found(place)
        new = body if verb == "update" else self._patched(request, old, body)
        if place.subresource == "approval":
            admission.approver(self.store, user, old)
        made = admission.changed(place, old, new, user, patched=verb == "patch")
        return self._store(place, old, made, manager), False

    def _verb(self, request: web.Request, place: Target) -> str:
        if request.method == "GET" and request.query.get("watch") in ("true", "1"):
            return "watch"
        match request.method, bool(place.name):
            case "GET", True:
                return "get"
            case "GET", False:
                return "list"
            case "POST", False if bool(place.namespace) == place.resource.namespaced:
                return "create"
            case "PUT", True:
                return "update"
            case "PATCH", True:
                return "patch"
            case "DELETE", True:
                return "delete"
            case _:
                raise Refusal(405, "MethodNotAllowed", "the server does not allow this method on the resource")

    def _authorize(self, user: User, verb: str, place: Target) -> None:
        if not rbac.allowed(self.store, user, verb, place):
            name = f' "{place.name}"' if place.name else ""
            where = f' in the namespace "{place.namespace}"' if place.namespace else " at the cluster scope"
            sub = f"/{place.subresource}" if place.subresource else ""
            raise Refusal(
                403, "Forbidden",
                f'{place.resource}{name} is forbidden: User "{user.name}" cannot {verb} resource '
                f'"{place.resource.plural}{sub}" in API group "{place.resource.group}"{where}',
            )  # fmt: skip

    async def _review(self, request: web.Request, user: User) -> web.Response:
        asked = ((await self._body(request)).get("spec") or {}).get("resourceAttributes") or {}
        plural = "/".join(filter(None, (asked.get("resource", ""), asked.get("subresource", ""))))
        may = "system:masters" in user.groups or rbac.grants(
            self.store, user, asked.get("verb", ""), asked.get("group", ""), plural,
            asked.get("namespace", ""), asked.get("name", ""),
        )  # fmt: skip
        body = {"kind": ACCESS_REVIEWS.kind, "apiVersion": ACCESS_REVIEWS.api_version, "metadata": {}}
        return web.json_response(
            {**body, "spec": {"resourceAttributes": asked}, "status": {"allowed": may}}, status=201
        )

    # Reading and writing one object.

    def _found(self, place: Target) -> Object:
        found = self.store.get(place.resource, place.namespace, place.name)
        if found is None:
            raise Refusal(404, "NotFound", f'{place.resource} "{place.name}" not found')
        return found

    def _made_by_replacing(self, place: Target, body: Object, user: User, manager: str) -> Object:
        """A Lease that is gone is made again by a replace, even one with an old version, but not with a uid."""
        self._authorize(user, "create", place)
        if body["metadata"].get("uid"):
            raise Refusal(409, "Conflict", "Precondition failed: the uid is that of an object that is gone")
        given = {key: value for key, value in body["metadata"].items() if key != "resourceVersion"}
        return self._create(place, {**body, "metadata": {**given, "name": place.name}}, user, manager)

    def _create(self, place: Target, body: Object, user: User, manager: str) -> Object:
        if place.namespace and self.store.get(NAMESPACES, "", place.namespace) is None:
            raise Refusal(404, "NotFound", f'namespaces "{place.namespace}" not found')
        made = admission.new(self.store, place, body, user, self.clock())
        name = made["metadata"]["name"]
        if self.store.get(place.resource, place.namespace, name) is not None:
            raise Refusal(409, "AlreadyExists", f'{place.resource} "{name}" already exists')
        return self._store(place, None, made, manager)

    def _apply(self, place: Target, body: Object, user: User, manager: str, *, force: bool) -> Object:
        old = self.store.get(place.resource, place.namespace, place.name)
        if old is None:
            if (body["metadata"] or {}).get("resourceVersion"):
                raise Refusal(409, "Conflict", f'{place.resource} "{place.name}": it is not there any more')
            named = {**body, "metadata": {**body["metadata"], "name": place.name}}
            made = self._create(place, named, user, manager)
            return self.store.put(place.resource, fields.applied(None, made, manager, force=force))
        given = {key: v for key, v in body["metadata"].items() if key in ("resourceVersion", "uid", "name")}
        admission.changed(place, old, {**old, "metadata": {**old["metadata"], **given}}, user)
        wanted = {key: value for key, value in body.items() if place.resource != SECRETS or key != "stringData"}
        wanted |= {"data": admission.filled(SECRETS, body)["data"]} if place.resource == SECRETS else {}
        merged = fields.applied(old, wanted, manager, force=force)
        made = admission.changed(place, old, merged, user)
        made["metadata"]["managedFields"] = merged["metadata"]["managedFields"]
        return self.store.put(place.resource, made)

    def _patched(self, request: web.Request, old: Object, patch: Object) -> Object:
        match request.content_type:
            case "application/merge-patch+json":
                return dict(fields.merge(old, patch))
            case "application/strategic-merge-patch+json":
                return dict(fields.strategic(old, patch))
            case other:
                raise Refusal(
                    415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {other}"
                )

    def _store(self, place: Target, old: Object | None, new: Object, manager: str) -> Object:
        return self.store.put(place.resource, fields.updated(old, new, manager))

    async def _delete(self, request: web.Request, place: Target) -> web.Response:
        found = self._found(place)
        preconditions = (await self._body(request)).get("preconditions") or {} if request.can_read_body else {}
        for key in ("uid", "resourceVersion"):
            if preconditions.get(key) not in (None, found["metadata"][key]):
                raise Refusal(409, "Conflict", f"Precondition failed: {key} in precondition differs")
        self.store.delete(place.resource, place.namespace, place.name)
        self._written(place, None)
        details = {"name": place.name, "kind": place.resource.plural, "uid": found["metadata"]["uid"]}
        return web.json_response({"kind": "Status", "apiVersion": "v1", "status": "Success", "details": details})

    async def _body(self, request: web.Request) -> Object:
        try:
            text = await request.text()
            body = yaml.safe_load(text) if request.content_type == APPLY else json.loads(text)
            body["metadata"] = dict(body.get("metadata") or {})
        except (ValueError, TypeError, AttributeError, yaml.YAMLError):
            raise Refusal(400, "BadRequest", "the body is not an object") from None
        return dict(body)


def _creates(request: web.Request) -> bool:
    return request.method == "POST" and request.query.get("dryRun") != "All"
